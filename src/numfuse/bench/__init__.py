"""The benchmark harness behind `numfuse bench`: cases, rivals in plain NumPy, measurement, report."""
