"""The benchmark of decoupled uniformity: its forms agree, float32 is near float64."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import uniformity
from jax_rcl.losses.kernels import Cosine

TINY = ["--examples=8", "--views=3", "--dimension=4", "--priors=5", "--block=3"]


def test_views_agree_in_part_and_priors_are_bits():
    z, bits = uniformity.embeddings(50, 2, 200), uniformity.attributes(9, 4)
    z = z / np.linalg.norm(z, axis=-1, keepdims=True)
    assert np.mean(np.sum(z[:, 0] * z[:, 1], -1)) == pytest.approx(2 / 3, abs=0.03)
    assert bits.shape == (9, 4) and np.isin(bits, (0, 1)).all()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Rows that one small run writes, without PyTorch."""
    path = tmp_path_factory.mktemp("bench") / "bench.json"
    assert uniformity.main([*TINY, "--repetitions=2", f"--json={path}"]) == 0
    return [uniformity.Timing(**row) for row in json.loads(path.read_text())["rows"]]


def test_the_numbers_say_what_was_measured_of_every_form(found):
    forms = {row.name: row for row in found}
    assert list(forms) == list(uniformity.forms(3))
    for row in found:
        assert row.seconds > 0 and row.temporary_bytes >= 0
        assert row.torch_seconds is row.torch_value is row.apart is None
    blocks, whole = forms["no prior, blocks of 3"].value, forms["no prior"].value
    assert blocks == pytest.approx(whole, rel=1e-5)
    assert forms["Cosine"].value > whole
    assert -1 < forms[uniformity.ALONE].value < 0


@pytest.mark.parametrize("name", ["no prior", "Rbf(20)", "Cosine", "kernel centroids"])
def test_every_form_agrees_with_the_formula_in_pytorch(name):
    pytest.importorskip("torch")
    z, priors = uniformity.embeddings(8, 3, 4), uniformity.attributes(8, 5)
    priors[0] = 1  # a prior of zeros would have no direction
    if name == uniformity.ALONE:
        priors = np.asarray(Cosine()(jnp.asarray(priors)))
    row = uniformity.timing(
        name, uniformity.forms(3)[name], z, priors, repetitions=1, torch=True
    )
    assert row.value == pytest.approx(row.torch_value, rel=1e-4)
    assert row.apart < 1e-3 and row.torch_seconds > 0


def test_forms_that_pytorch_has_no_formula_for_have_no_time():
    pytest.importorskip("torch")
    z, priors = uniformity.embeddings(8, 3, 4), uniformity.attributes(8, 5)
    for name in ("no prior, blocks of 3", "Rbf, median"):
        assert uniformity.in_torch(name, z, priors) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "condition", "centroids", "gradient"),
    [
        ("features of 16 factors, near", 2e4, 1e-3, 1e-3),
        ("one-hot of 10", 1e4, 1e-3, 1e-4),
        ("16 numbers, Cosine", 2e4, 3e-3, 1e-4),
    ],
)
def test_float32_is_near_float64_where_a_kernel_is_hard_to_invert(
    name, condition, centroids, gradient
):
    kernel, priors = uniformity.kinds(256, 5)[name]
    z = uniformity.embeddings(256, 2, 16)
    found = uniformity.accuracy(name, kernel, z, priors)
    assert found.name == name and 0.3 < found.mean < 1
    assert condition / 2 < found.condition < condition * 2
    assert found.centroids < centroids and found.gradient < gradient
    assert found.loss < 1e-5
    assert found.inverse > 2 * found.centroids, "an inverse would do as well"


def test_the_tables_hold_what_was_found(found):
    beside = dataclasses.replace(
        found[1], seconds=1.5, torch_seconds=123.4, torch_value=-1.25, apart=3e-5
    )
    accuracy = uniformity.Accuracy("bits", 0.5, 2e4, 1e-3, 2e-6, 3e-4, 4e-2)
    text = uniformity.table([found[0], beside], [accuracy])
    assert found[0].name in text and "| no prior | 1500 |" in text
    assert "| 1.234e+05 |" in text
    assert "| -1.250000 | 3e-05 |" in text and "– | –" in text
    assert "| bits | 0.50 | 2.0e+04 | 1.0e-03 | 2.0e-06 | 3.0e-04 | 4.0e-02 |" in text


def test_numerics_are_of_every_kind(capsys, monkeypatch):
    asked = []

    def accuracy(name, *rest):
        asked.append(name)
        return uniformity.Accuracy(name, 0.5, 2e4, 1e-3, 2e-6, 3e-4, 4e-2)

    monkeypatch.setattr(uniformity, "accuracy", accuracy)
    monkeypatch.setattr(uniformity, "forms", lambda block: {})
    assert uniformity.main([*TINY, "--numerics"]) == 0
    assert asked == list(uniformity.kinds(8, 5))
    printed = capsys.readouterr().out
    assert all(f"| {name} | 0.50 |" in printed for name in asked)


@pytest.mark.parametrize("kind", ["near", "far"])
def test_features_are_as_far_apart_as_their_kind_says(kind):
    expected = {"near": 0.05, "far": 1}[kind]
    for origin in ("independent features", "features of 16 factors"):
        kernel, priors = uniformity.kinds(100, 5)[f"{origin}, {kind}"]
        assert priors.min() >= 0 and priors.shape == (100, 4096)
        squares = 2 * np.var(priors.astype(np.float64), axis=0).sum()
        assert squares / (2 * kernel.sigma**2) == pytest.approx(expected, rel=1e-3)


def test_without_pytorch_it_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="2"):
        uniformity.main(["--torch"])
    assert "--torch needs PyTorch: pip install" in capsys.readouterr().err
