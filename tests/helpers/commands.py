"""Commands of `numfuse`, run in this process."""

from numfuse import cli


def run(capsys, *argv):
    code = cli.main([str(arg) for arg in argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err
