import subprocess
import sys

import pytest
from helpers.commands import run

import numfuse
from numfuse import cli


def test_the_reference_is_imported_when_it_is_first_needed():
    script = ("import sys, numfuse; before = 'numfuse.reference' in sys.modules;"
              "print(before, numfuse.reference.adam_step.__module__, hasattr(numfuse, 'no_such_name'))")
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("False numfuse.reference.adam False\n", "")


def test_module_runs_without_the_extras():
    script = (
        "import sys, runpy; sys.modules.update(dict.fromkeys(['rich', 'matplotlib', 'sklearn']));"
        "sys.argv = ['numfuse', 'info']; runpy.run_module('numfuse', run_name='__main__')"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("numfuse ")


def test_python_dash_m():
    result = subprocess.run([sys.executable, "-m", "numfuse", "--version"], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, f"numfuse {numfuse.__version__}\n")


@pytest.mark.parametrize("command", ["info", "train", "bench"])
def test_unknown_option_shows_the_usage_of_its_command(capsys, command):
    with pytest.raises(SystemExit):
        cli.main([command, "--hiden", "3"])
    assert capsys.readouterr().err.startswith(f"usage: numfuse {command} ")


@pytest.mark.parametrize("module, argv", [
    ("rich", ["train"]), ("sklearn", ["train"]), ("sklearn.datasets", ["train", "digits"]),
    ("matplotlib", ["train", "--plot", "c.png"]),
])
def test_missing_extra(capsys, tmp_path, monkeypatch, module, argv):
    monkeypatch.chdir(tmp_path)
    for name in [name for name in sys.modules if name.startswith((module, "numfuse.cli.train_report"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(cli, "train_report", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    code, _, err = run(capsys, *argv)
    assert code == 2 and 'pip install "numfuse[cli]"' in err and err.count("\n") == 1


def test_a_failure_of_ours_is_not_dressed_up(monkeypatch):
    monkeypatch.setitem(sys.modules, "numfuse.cli.train_report", None)
    monkeypatch.delattr(cli, "train_report", raising=False)
    with pytest.raises(ImportError, match="report"):
        cli.main(["train"])


def test_bench_is_registered(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["bench", "--help"])
    assert caught.value.code == 0 and "KERNEL" in capsys.readouterr().out
