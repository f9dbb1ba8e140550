"""Training that was cut and resumed has the bits of training that was not."""

import inspect
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from numfuse import nn, optim
from numfuse.optim import schedules
from numfuse.train import fit, load_checkpoint, mlp, save_checkpoint

EPOCHS = 6
OPTIMIZERS = {
    "sgd": lambda params: optim.SGD(params, lr=0.05),
    "momentum": lambda params: optim.SGD(params, lr=0.05, momentum=0.9, nesterov=True),
    "rmsprop": lambda params: optim.RMSProp(params, lr=0.01, momentum=0.5, centered=True),
    "adam": lambda params: optim.Adam(params, lr=0.01, amsgrad=True, weight_decay=1e-3),
    "adamw": lambda params: optim.AdamW(params, lr=0.01),
    "adagrad": lambda params: optim.Adagrad(params, lr=0.05, lr_decay=0.01),
    "lion": lambda params: optim.Lion(params, lr=0.002, weight_decay=0.01),
    "clipped": lambda params: optim.Adam(params, lr=0.01, max_grad_norm=0.5, skip_nonfinite=True),
    "averaged": lambda params: optim.Adam(params, lr=0.01, l1=1e-3, l1_proximal=True, max_norm=1.0, ema_decay=0.8),
}
SCHEDULERS = {
    "linear": lambda optimizer: {},
    "cosine": lambda optimizer: {"schedule": "cosine"},
    "steps": lambda optimizer: {"schedule": optim.Scheduler(
        optimizer, lr=schedules.SequentialLR([schedules.LinearLR(0.1, total_iters=5), schedules.StepLR(7)], [5]))},
    "plateau": lambda optimizer: {"schedule": optim.Scheduler(
        optimizer, lr=schedules.ReduceLROnPlateau(factor=0.5, patience=0)), "schedule_every": "epoch"},
}


def training(make="adam", schedule="linear", seed=0, **options):
    """Net, optimizer and a function of the arguments of `fit` that are left; two seeds have nothing in common."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((90, 5), dtype=np.float32)
    y = (x[:, 0] + rng.standard_normal(90) > 0).astype(np.int64)
    net = mlp(5, 2, [12, 8], dropout=0.3, rng=seed)
    optimizer = OPTIMIZERS[make](net.named_parameters())
    optimizer.param_groups[0]["lr"] *= 1 + seed
    options = SCHEDULERS[schedule](optimizer) | options

    def run(**more):
        return fit(net, nn.CrossEntropyLoss(), optimizer, x, y, epochs=EPOCHS, batch_size=16, **{
            "rng": 7 + seed, **options, **more})

    return net, optimizer, run


def shown(net, optimizer, history):
    """All that was trained and recorded, to the last digit; no times."""
    with np.printoptions(floatmode="unique", threshold=10**6):
        epochs = [{**asdict(epoch), "seconds": 0} for epoch in history]
        return f"{net.state_dict()}\n{optimizer.state_dict()}\n{epochs}\n{history.stop_reason} {history.best}"


def cut(epoch):
    """Ctrl-C in the fourth epoch."""
    if (epoch.number, epoch.batch) == (4, 3):
        raise KeyboardInterrupt


def check(path, make="adam", schedule="linear", **options):
    net, optimizer, run = training(make, schedule, **options)
    whole = shown(net, optimizer, run())
    *_, run = training(make, schedule, **options)
    history = run(checkpoint=path, on_batch=cut)
    assert history.stop_reason == "interrupt" and len(history) == 3
    net, optimizer, run = training(make, schedule, seed=1, **options)
    assert shown(net, optimizer, run(checkpoint=path, resume=True)) == whole


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_every_optimizer(tmp_path, make):
    check(tmp_path / "c.npz", make)


@pytest.mark.parametrize("schedule", SCHEDULERS)
def test_every_schedule(tmp_path, schedule):
    check(tmp_path / "c.npz", schedule=schedule, validation=0.2)


@pytest.mark.parametrize("options", [
    {"accumulate": 3}, {"rng": 5}, {"validation": 0.2}, {"checkpoint_every": 2},
    {"make": "averaged", "validation": 0.2, "patience": 1000},
    {"validation": 0.2, "patience": 1000}, {"validation": 0.2, "patience": 1000, "monitor": "score", "accumulate": 2},
], ids=str)
def test_every_option(tmp_path, options):
    check(tmp_path / "c.npz", **options)


def test_a_cut_before_the_first_epoch_is_done(tmp_path):
    net, optimizer, run = training()
    whole = shown(net, optimizer, run())

    def cut_at_once(epoch):
        raise KeyboardInterrupt

    *_, run = training()
    assert run(checkpoint=tmp_path / "c.npz", on_batch=cut_at_once) == []
    net, optimizer, run = training(seed=1)
    assert shown(net, optimizer, run(checkpoint=tmp_path / "c.npz", resume=True)) == whole


def test_cut_again_and_again(tmp_path):
    net, optimizer, run = training()
    whole = shown(net, optimizer, run())
    for number in range(1, EPOCHS):
        net, optimizer, run = training(seed=number - 1)
        run(checkpoint=tmp_path / "c.npz", resume=number > 1, on_epoch=lambda epoch: epoch.number == number)
    net, optimizer, run = training(seed=EPOCHS)
    assert shown(net, optimizer, run(checkpoint=tmp_path / "c.npz", resume=True)) == whole


def test_what_has_ended_stays_so(tmp_path):
    """All epochs done, or patience at its end: resuming trains no more, and gives the best epoch again."""
    for name, options in (("all", {}), ("patience", {"validation": 0.3, "patience": 1, "min_delta": 1e9})):
        net, optimizer, run = training(**options)
        history = run(checkpoint=tmp_path / f"{name}.npz")
        assert history.stop_reason == ("patience" if options else "")
        whole = shown(net, optimizer, history)

        def fail(epoch):
            raise AssertionError

        net, optimizer, run = training(seed=1, **options)
        assert shown(net, optimizer, run(checkpoint=tmp_path / f"{name}.npz", resume=True, on_batch=fail)) == whole


def child(path, seed, cut_at):
    """Train in a process of its own, which dies at a batch; or to the end, and print everything."""
    import os
    import sys

    import test_resume

    net, optimizer, run = test_resume.training("adam", "steps", seed=seed, accumulate=2, validation=0.2, patience=1000)

    def die(epoch):
        if (epoch.number, epoch.batch) == cut_at:
            os._exit(9)

    history = run(checkpoint=path, resume=seed > 0, on_batch=die)
    sys.stdout.write(test_resume.shown(net, optimizer, history))


def test_fresh_processes_one_of_which_was_killed(tmp_path):
    def run(path, seed, cut_at):
        script = f"{inspect.getsource(child)}\nchild({str(path)!r}, {seed}, {cut_at})"
        modules = ":".join(filter(None, [str(Path(__file__).parent), *sys.path]))
        result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, encoding="utf-8",
                                env={"PYTHONPATH": modules, "OPENBLAS_NUM_THREADS": "1"})
        return result.returncode, result.stdout, result.stderr

    code, whole, error = run(tmp_path / "whole.npz", 0, None)
    assert (code, error) == (0, "") and "exp_avg" in whole
    assert run(tmp_path / "c.npz", 0, (4, 3))[:2] == (9, "")
    assert run(tmp_path / "c.npz", 1, None) == (0, whole, "")


def test_ones_own_loop(tmp_path):
    """Net, optimizer and Generator saved after some steps, and put into others."""
    def steps(net, optimizer, rng, n):
        loss = nn.CrossEntropyLoss()
        for _ in range(n):
            loss.forward(net.forward(rng.standard_normal((8, 5), np.float32)), rng.integers(2, size=8))
            net.backward(loss.backward())
            optimizer.step(net.named_gradients())

    def parts(seed):
        net, optimizer, _ = training(seed=seed)
        return {"net": net, "optimizer": optimizer, "rng": np.random.default_rng(seed)}

    whole, cut, resumed = parts(0), parts(0), parts(1)
    steps(**whole, n=9)
    steps(**cut, n=4)
    save_checkpoint(tmp_path / "c.npz", **cut)
    load_checkpoint(tmp_path / "c.npz", **resumed)
    steps(**resumed, n=5)
    with np.printoptions(floatmode="unique", threshold=10**6):
        for part in ("net", "optimizer"):
            assert str(resumed[part].state_dict()) == str(whole[part].state_dict())


@pytest.mark.parametrize("spoil, error, fault", [
    (lambda path: path.unlink(), FileNotFoundError, "c.npz"),
    (lambda path: path.write_bytes(b"text"), ValueError, "c.npz is not a checkpoint that numfuse saved"),
    (lambda path: path.write_bytes(path.read_bytes()[:-50]), ValueError, "c.npz is not a checkpoint"),
    (lambda path: save_checkpoint(path, about=3), ValueError, "c.npz is a checkpoint, but not one of fit"),
    (lambda path: save_checkpoint(path, about={"history": [{"a": 1}]}), ValueError, "but not one of fit"),
    (lambda path: other_optimizer(path), ValueError, "belong to this optimizer: it was SGD, now is Adam"),
    (lambda path: other_net(path), ValueError, "does not belong to this net"),
])
def test_files_of_others_change_nothing(tmp_path, spoil, error, fault):
    path = tmp_path / "c.npz"
    training()[2](checkpoint=path)
    spoil(path)
    net, optimizer, run = training(seed=1)
    before = str(net.state_dict()), str(optimizer.state_dict())
    with pytest.raises(error, match=fault):
        run(checkpoint=path, resume=True)
    assert (str(net.state_dict()), str(optimizer.state_dict())) == before


def other_optimizer(path):
    path.unlink()
    training("sgd")[2](checkpoint=path)


def other_net(path):
    path.unlink()
    net = nn.Sequential(nn.Linear(5, 2))
    x, y = np.ones((4, 5), np.float32), np.array([0, 1, 0, 1])
    fit(net, nn.CrossEntropyLoss(), optim.Adam(net.parameters()), x, y, epochs=1, batch_size=2, checkpoint=path)


def test_a_checkpoint_is_not_replaced_by_another_run(tmp_path):
    path = tmp_path / "c.npz"
    training()[2](checkpoint=path)
    content = path.read_bytes()
    net, _, run = training(seed=1)
    before = str(net.state_dict())
    with pytest.raises(FileExistsError, match="c.npz exists: resume=True goes on from it; remove it to begin anew"):
        run(checkpoint=path)
    assert path.read_bytes() == content and str(net.state_dict()) == before


def test_bad_arguments_leave_no_checkpoint(tmp_path):
    net, optimizer, _ = training()
    with pytest.raises(TypeError, match="x must be float32"):
        fit(net, nn.CrossEntropyLoss(), optimizer, np.ones((4, 5)), np.arange(4) % 2, epochs=1, batch_size=2,
            checkpoint=tmp_path / "c.npz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{"validation": 0.3, "patience": 2, "min_delta": 1e9}, {}])
def test_an_early_end_is_in_the_file_whenever_it_comes(tmp_path, options):
    net, optimizer, run = training(**options)
    stop = (lambda epoch: False) if options else (lambda epoch: epoch.number == 3)
    history = run(checkpoint=tmp_path / "c.npz", checkpoint_every=100, on_epoch=stop)
    assert (len(history), history.stop_reason) == (3, "patience" if options else "callback")
    assert str(load_checkpoint(tmp_path / "c.npz")["history"]) == str([asdict(epoch) for epoch in history])


def test_a_place_that_cannot_be_written_is_found_out_before_training(tmp_path):
    net, optimizer, run = training()
    before = str(net.state_dict())
    with pytest.raises(OSError):
        run(checkpoint=tmp_path / "nowhere" / "c.npz")
    assert str(net.state_dict()) == before
