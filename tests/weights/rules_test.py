"""Renaming is total: every array used once, every path filled once, both ways."""

import numpy as np
import pytest

from jax_rcl.weights.rules import (
    CONV,
    LINEAR,
    Layout,
    Rule,
    WeightsMismatch,
    below,
    export_arrays,
    flatten,
    import_arrays,
    places,
    unflatten,
)

RULES = (
    Rule("conv.weight", "stem/kernel", CONV),
    Rule("layer{i}.{j}.weight", "stage{i}_block{j+1}/kernel", LINEAR),
    Rule("scale", "scale"),
)
SHAPES = {
    "stem/kernel": (5, 4, 3, 2),
    "stage1_block1/kernel": (2, 3),
    "stage1_block2/kernel": (4, 3),
    "scale": (),
}


def arrays(**shapes):
    draws = np.random.RandomState(0)
    return {name: draws.randn(*shape) for name, shape in shapes.items()}


@pytest.fixture
def source():
    shapes = {
        "conv.weight": (2, 3, 5, 4),
        "layer1.0.weight": (3, 2),
        "layer1.1.weight": (3, 4),
        "scale": (),
    }
    return {name: np.asarray(x) for name, x in arrays(**shapes).items()}


def rename(source, rules, shapes, **known):
    """Arrays by path, for a network of these shapes by path."""
    wanted = {path: np.empty(shape) for path, shape in shapes.items()}
    return flatten(import_arrays(source, rules, unflatten(wanted), **known))


def test_every_array_goes_to_its_place_with_its_axes(source):
    found = rename(source, RULES, SHAPES)
    assert {path: x.shape for path, x in found.items()} == SHAPES
    assert found["stem/kernel"][4, 3, 2, 1] == source["conv.weight"][1, 2, 4, 3]
    np.testing.assert_array_equal(
        found["stage1_block2/kernel"], source["layer1.1.weight"].T
    )
    assert found["scale"] == source["scale"]


def test_renaming_back_is_the_exact_inverse(source):
    back = export_arrays(rename(source, RULES, SHAPES), RULES)
    assert set(back) == set(source)
    for name, array in source.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype


def test_leftovers_of_both_sides_are_listed_with_shapes(source):
    source["layer2.0.weight"] = np.zeros((7, 6))
    source["fc.bias"] = np.zeros(9)
    source["conv.weight"] = np.zeros((2, 3, 5, 5))
    with pytest.raises(WeightsMismatch) as error:
        rename(source, RULES, SHAPES | {"fresh/bias": (8,)})
    heading, *lines = str(error.value).splitlines()
    assert "2 array(s) of the file unused (-), 1 of the network not filled" in heading
    assert lines == [
        "- layer2.0.weight (7, 6)",
        "- fc.bias (9,)",
        "+ fresh/bias (8,)",
        "! conv.weight (2, 3, 5, 5) -> stem/kernel (5, 4, 3, 2): "
        "OIHW to HWIO gives (5, 5, 3, 2)",
    ]


def test_of_many_leftovers_the_first_of_each_side_are_listed(source):
    state = source | {f"x{i}.weight": np.zeros(1) for i in range(30)}
    with pytest.raises(WeightsMismatch) as error:
        rename(state, RULES, SHAPES)
    lines = str(error.value).splitlines()
    assert "- … 10 more" in lines and sum(x[0] == "-" for x in lines) == 21


def test_an_array_of_another_rank_is_listed_too(source):
    source["conv.weight"] = np.zeros((5, 4))
    with pytest.raises(WeightsMismatch, match="OIHW to HWIO cannot be laid out so"):
        # Not even where it has, unchanged, the shape that is wanted.
        rename(source, RULES, SHAPES | {"stem/kernel": (5, 4)})


def test_an_array_that_is_absent_is_listed(source):
    del source["scale"]
    with pytest.raises(WeightsMismatch, match=r"\+ scale \(\)"):
        rename(source, RULES, SHAPES)


def test_what_is_left_out_is_said_by_its_name_or_its_part(source):
    source |= {"fc.weight": np.zeros((2, 2)), "fc.bias": np.zeros(2)}
    source |= {"bn.num_batches_tracked": np.zeros(())}
    for known in ({"left_out": ("fc.*", "no.*")}, {"parts": {"head": ("fc.*",)}}):
        assert set(rename(source, RULES, SHAPES, **known)) == set(SHAPES)
    with pytest.raises(WeightsMismatch, match=r"- fc\.weight \(2, 2\)\n- fc\.bias"):
        rename(source, RULES, SHAPES, parts={"stem": ("fc.*",)})


def test_two_rules_may_not_claim_a_name(source):
    rules = (*RULES, Rule("layer1.{j}.weight", "other{j}/kernel"))
    with pytest.raises(ValueError, match=r"layer1\.0\.weight is claimed by 2 rules"):
        rename(source, rules, SHAPES)


def test_two_arrays_may_not_go_to_one_path(source):
    source["again"] = source["scale"]
    with pytest.raises(ValueError, match="two arrays go to scale; the second is again"):
        rename(source, (*RULES, Rule("again", "scale")), SHAPES)
    # And backwards no path has two names.
    with pytest.raises(ValueError, match="scale is claimed by 2 rules"):
        export_arrays({"scale": np.zeros(())}, (*RULES, Rule("again", "scale")))
    both = {"scale": np.zeros(()), "again": np.zeros(())}
    with pytest.raises(ValueError, match="two arrays go to scale; the second is again"):
        export_arrays(both, (*RULES, Rule("scale", "again")))


def test_a_number_matches_whole_and_without_zeros_in_front():
    rule = Rule("l{i}.w", "block{i+1}/w")
    shapes = {"block11/w": (1,)}
    assert set(rename({"l10.w": np.zeros(1)}, [rule], shapes)) == set(shapes)
    for name in ("l010.w", "l10.w2", "xl10.w", "l.w", "l10xw"):
        with pytest.raises(WeightsMismatch, match=r"- l|- xl"):
            rename({name: np.zeros(1)}, [rule], shapes)


def test_there_is_nothing_before_the_first_number():
    with pytest.raises(WeightsMismatch, match=r"\+ block0/w"):
        export_arrays({"block0/w": np.zeros(1)}, [Rule("l{i}.w", "block{i+1}/w")])


def test_a_number_that_occurs_twice_is_the_same():
    rule = Rule("a{i}.b{i}", "c{i}")
    assert rename({"a1.b1": np.zeros(1)}, [rule], {"c1": (1,)})
    with pytest.raises(WeightsMismatch, match=r"- a1\.b2"):
        rename({"a1.b2": np.zeros(1)}, [rule], {"c1": (1,)})


THIRDS = Layout(
    "thirds",
    lambda x, shapes: tuple(
        part.T.reshape(shape)
        for part, shape in zip(np.split(x, 3), shapes, strict=True)
    ),
    lambda parts: np.concatenate([part.reshape(len(part), -1).T for part in parts]),
)
SPLIT = Rule("attn{i}.in_proj", ("b{i}/query", "b{i}/key", "b{i}/value"), THIRDS)


def test_one_array_may_fill_several_paths():
    source = arrays(**{"attn0.in_proj": (18, 4)})
    shapes = {f"b0/{name}": (4, 2, 3) for name in ("query", "key", "value")}
    found = rename(source, [SPLIT], shapes)
    np.testing.assert_array_equal(
        found["b0/key"].reshape(4, 6), source["attn0.in_proj"][6:12].T
    )
    back = export_arrays(found, [SPLIT])
    np.testing.assert_array_equal(back["attn0.in_proj"], source["attn0.in_proj"])


def test_a_part_that_is_absent_is_listed():
    found = {f"b0/{name}": np.zeros((4, 2, 3)) for name in ("query", "value")}
    with pytest.raises(WeightsMismatch, match=r"- attn0\.in_proj: needs b0/key"):
        export_arrays(found, [SPLIT])
    with pytest.raises(WeightsMismatch, match=r"- attn0\.in_proj \(18, 4\)"):
        rename(
            arrays(**{"attn0.in_proj": (18, 4)}),
            [SPLIT],
            {path: x.shape for path, x in found.items()},
        )


def test_trees_flatten_and_come_back():
    tree = {"params": {"a": {"kernel": 1}, "b": 2}, "batch_stats": {"c": {"mean": 3}}}
    flat = flatten(tree)
    assert flat == {"params/a/kernel": 1, "params/b": 2, "batch_stats/c/mean": 3}
    assert unflatten(flat) == tree


HALVES = Layout(
    "halves", lambda x, _: tuple(np.split(x, 2)), lambda parts: np.concatenate(parts)
)


def test_places_are_the_shapes_that_a_network_would_need(source):
    assert places(source, RULES) == SHAPES
    more = {"fc.weight": np.zeros(3), "conv.bias": np.zeros(2)}
    assert places(source | more, RULES) == SHAPES
    flat = source | {"conv.weight": np.zeros(7)}
    shapes = {path: x for path, x in SHAPES.items() if path != "stem/kernel"}
    assert places(flat, RULES) == shapes


def test_rules_below_names_keep_all_their_targets():
    rules = below("model", "params", (Rule("qk{i}", ("q{i}", "k{i}"), HALVES),))
    source = {"model.qk1": np.arange(4.0)}
    assert places(source, rules) == {"params/q1": (2,), "params/k1": (2,)}
    found = rename(source, rules, places(source, rules))
    np.testing.assert_array_equal(found["params/k1"], [2, 3])
    back = export_arrays(found, rules)
    np.testing.assert_array_equal(back["model.qk1"], source["model.qk1"])
    (rule,) = below("", "params", (Rule("scale", "scale"),))
    assert (rule.source, rule.targets) == ("scale", ("params/scale",))
