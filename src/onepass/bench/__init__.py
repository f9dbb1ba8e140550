"""The benchmark harness behind `onepass bench`: cases, rivals in plain NumPy, measurement, report."""
