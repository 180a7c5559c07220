#!/usr/bin/env bash
# Versions: torch 2.13.0, optax 0.2.8, jax 0.10.2.
#
# Seen: with their defaults, neither torch.optim.lr_scheduler.ReduceLROnPlateau nor
# optax.contrib.reduce_on_plateau ever lowers the learning rate of a loss that is
# negative, however long it stands still, and not while it slowly rises either. Both
# call an epoch better if its loss is below best * (1 - threshold). Of a negative best
# that is above the best: staying there is an improvement, and so is each rise by less
# than the threshold, which then is the new best. The same curve shifted above zero
# lowers the rate at once. threshold_mode="abs" (PyTorch) and rtol=0, atol=1e-4 (optax)
# are right for both.
#
# Why it matters here: losses of this field are negative where they are best: uniformity
# (log of a mean of exp(-t distance²)), cosine losses (BYOL, SimSiam), likelihoods.
#
# Exit status: 0 if seen as told, 1 if not.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.13.0 optax==0.2.8 jax==0.10.2
JAX_PLATFORMS=cpu "$work/venv/bin/python" - <<'PY'
import sys
from importlib.metadata import version

import jax
import jax.numpy as jnp
import optax
import torch

EPOCHS = 100


def of_torch(losses, **settings):
    parameter = torch.nn.Parameter(torch.zeros(1))
    sgd = torch.optim.SGD([parameter], lr=1.0)
    watch = torch.optim.lr_scheduler.ReduceLROnPlateau(sgd, **settings)
    for loss in losses:
        watch.step(loss)
    return sgd.param_groups[0]["lr"]


def of_optax(losses, **settings):
    watch = optax.contrib.reduce_on_plateau(**settings)
    update = jax.jit(lambda state, loss: watch.update(jnp.ones(1), state, value=loss)[1])
    state = watch.init(jnp.zeros(1))
    for loss in losses:
        state = update(state, jnp.float32(loss))
    return float(state.scale)


flat, rising = [-3.0] * EPOCHS, [-3.0 + 1e-4 * i for i in range(EPOCHS)]
found = {}
for name, losses in (("still at -3", flat), ("rising from -3", rising)):
    shifted = [loss + 6 for loss in losses]
    found[name] = [of_torch(losses), of_optax(losses)]
    found[f"{name}, shifted to 3"] = [of_torch(shifted), of_optax(shifted)]
    found[f"{name}, absolute threshold"] = [
        of_torch(losses, threshold_mode="abs"),
        of_optax(losses, rtol=0.0, atol=1e-4),
    ]
print("torch", version("torch"), "optax", version("optax"))
for name, rates in found.items():
    print(f"  {name}: learning rate {rates[0]:.0e} (torch), {rates[1]:.0e} (optax)")
as_told = all(
    all(rate == 1 for rate in rates) == (name in ("still at -3", "rising from -3"))
    for name, rates in found.items()
)
sys.exit(not as_told)
PY
echo "seen as told"
