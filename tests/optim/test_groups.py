import numpy as np
import pytest

from helpers.optimizers import every_backend
from numfuse import nn, optim
from numfuse.optim import SGD, Adam, decay_groups, groups_by_name


def net():
    return nn.Sequential(nn.Linear(3, 4, rng=0), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2, rng=1))


def names(groups):
    return [list(group["params"]) for group in groups]


def options(groups):
    return [{name: group[name] for name in group if name != "params"} for group in groups]


def test_the_first_pattern_that_matches_chooses_the_group():
    params = net().named_parameters()
    groups = groups_by_name(params, {"3.*": {"lr": 0.5}, "*.bias": {"weight_decay": 0.0}, "?.weigh[t]": {"lr": 0.1}})
    assert names(groups) == [["3.weight", "3.bias"], ["0.bias", "1.bias"], ["0.weight", "1.weight"]]
    assert options(groups) == [{"lr": 0.5}, {"weight_decay": 0.0}, {"lr": 0.1}]
    assert all(group["params"][name] is params[name] for group in groups for name in group["params"])


def test_the_rest_is_a_group_without_options_of_its_own():
    groups = groups_by_name(net().named_parameters(), {"0.bias": {"lr": 0.1}, "*.bias": {"lr": 0.5}})
    assert names(groups) == [["0.bias"], ["1.bias", "3.bias"], ["0.weight", "1.weight", "3.weight"]]
    assert options(groups) == [{"lr": 0.1}, {"lr": 0.5}, {}]
    assert names(groups_by_name({"w": np.ones(2)}, {"*": {}})) == [["w"]]
    assert options(groups_by_name(net().named_parameters(), {})) == [{}]


def test_an_optimizer_takes_the_groups_and_gradients_by_name():
    model = net()
    optimizer = optim.SGD(groups_by_name(model.named_parameters(), {"0.*": {"lr": 0.0}}), lr=1.0)
    before = {name: param.copy() for name, param in model.named_parameters().items()}
    model.backward(np.ones_like(model.forward(np.arange(15, dtype=np.float32).reshape(5, 3))))
    optimizer.step(model.named_gradients())
    for name, param in model.named_parameters().items():
        expected = before[name] - (0 if name.startswith("0.") else model.named_gradients()[name])
        assert param.tobytes() == expected.astype(np.float32).tobytes()


def test_biases_and_batch_norm_escape_decay():
    groups = decay_groups(net().named_parameters(), weight_decay=0.25)
    assert names(groups) == [["0.weight", "3.weight"], ["0.bias", "1.weight", "1.bias", "3.bias"]]
    assert options(groups) == [{"weight_decay": 0.25}, {"weight_decay": 0.0}]
    assert options(decay_groups(net().named_parameters(), weight_decay=0.25, l1=1)) == [
        {"weight_decay": 0.25, "l1": 1}, {"weight_decay": 0.0, "l1": 0.0}
    ]
    assert names(decay_groups({"w": np.ones((2, 2))}, weight_decay=0.25)) == [["w"]]
    assert names(decay_groups({"b": np.ones(2), "s": np.ones(())}, weight_decay=0.25)) == [["b", "s"]]


@pytest.mark.parametrize("make, error, pattern", [
    (lambda: groups_by_name([np.ones(2)], {}), TypeError, "^named_params must be a dict of name -> array"),
    (lambda: groups_by_name({}, {}), TypeError, "^named_params must be a dict of name -> array"),
    (lambda: decay_groups([np.ones((2, 2))], weight_decay=1), TypeError, "^named_params must be a dict"),
    (lambda: decay_groups({"w": 1.0}, weight_decay=1), TypeError, r"^named_params\['w'\] must be a numpy.ndarray"),
    (lambda: groups_by_name({"w": np.ones(2)}, [{"lr": 1}]), TypeError, "^options must be a dict of pattern"),
    (lambda: groups_by_name({"w": np.ones(2)}, {"w": 0.1}), TypeError, r"^options\['w'\] must be a dict of options"),
    (lambda: groups_by_name({"w": np.ones(2)}, {3: {}}), TypeError, r"^options\[3\] must be"),
    (lambda: groups_by_name({"w": np.ones(2)}, {"w": {"params": []}}), TypeError, r"^options\['w'\] must be"),
    (lambda: groups_by_name({"w": np.ones(2)}, {"*.w": {}}), ValueError, r"pattern '\*.w'.*no name; names are 'w'"),
    (lambda: groups_by_name({"0.w": np.ones(2)}, {"0.*": {}, "*.w": {}}), ValueError,
     r"pattern '\*.w', but earlier ones match all its names"),
    (lambda: optim.SGD(groups_by_name({"w": np.ones(2)}, {"w": {"rate": 1}})), ValueError, "unknown entry 'rate'"),
])
def test_wrong_groups_are_refused(make, error, pattern):
    with pytest.raises(error, match=pattern):
        make()


def test_gradients_in_the_order_of_the_net_are_refused_with_the_cure():
    params = {"0.weight": np.ones((3, 2)), "0.bias": np.ones(3), "1.weight": np.ones((2, 3))}
    optimizer = optim.SGD(optim.decay_groups(params, weight_decay=0.1))
    with pytest.raises(ValueError, match=r"grads\['1.weight'\].*give gradients by name"):
        optimizer.step([np.ones_like(param) for param in params.values()])
    assert all((param == 1).all() for param in params.values())


def test_what_is_no_dict_of_names_is_refused_without_printing_arrays():
    with pytest.raises(TypeError, match=r"such as net.named_parameters\(\), was list$"):
        optim.decay_groups([np.ones(3)], weight_decay=0.1)
    with pytest.raises(ValueError, match="weight_decay must be >= 0, was -0.1"):
        optim.decay_groups({"weight": np.ones((2, 2))}, weight_decay=-0.1)


@every_backend
@pytest.mark.parametrize("change, words", [
    (lambda groups: groups.__setitem__(0, None), r"param_groups\[0\] must be a dict, was NoneType"),
    (lambda groups: groups[1].update(params=None), r"param_groups\[1\]\['params'\] must be a list.*was NoneType"),
    (lambda groups: groups[1].update(params={"a": np.ones(3)}), r"param_groups\[1\]\['params'\] must be a list"),
], ids=["group", "None", "dict"])
def test_groups_that_are_none_are_named(backend, change, words):
    params = [np.ones(3), np.ones(3)]
    optimizer = SGD([{"params": [param]} for param in params]).set_backend(backend)
    change(optimizer.param_groups)
    with pytest.raises(TypeError, match=words):
        optimizer.step([np.ones(3), np.ones(3)])
    assert all((param == 1).all() for param in params)


@every_backend
def test_a_parameter_without_gradient_is_not_blamed_for_another(backend):
    frozen, params = np.ones(3), {"a": np.ones(3)}
    optimizer = SGD({"frozen": frozen, **params}).set_backend(backend)
    frozen.flags.writeable = False
    optimizer.step({"a": np.ones(3)})
    with pytest.raises(ValueError, match=r"^grads\['a'\] must have shape"):
        optimizer.step({"a": np.ones(4)})


def test_a_group_of_two_dtypes_is_prepared_once(monkeypatch):
    optimizer = Adam([np.ones(3, np.float32), np.ones(3)])
    prepared = []
    monkeypatch.setattr(Adam, "_prepare", lambda self, *given: prepared.append(given))
    optimizer.step([np.ones(3, np.float32), np.ones(3)])
    assert not prepared
