#!/usr/bin/env bash
# Versions: lightly 1.6.0, torch 2.13.0, torchvision 0.28.0.
#
# Seen: the queue of lightly's memory bank (NTXentLoss(memory_bank_size=(n, d)), as its
# MoCo examples have it) is not part of state_dict. The bank and its pointer are buffers
# with persistent=False, so that a checkpoint of the loss is empty, loading one back is
# accepted as complete, and the resumed run has a new random queue. The released MoCo
# keeps its queue in the checkpoint.
#
# Why it matters here: after every restart the first n / batch size updates contrast
# with random unit vectors instead of with keys. In high dimensions these are nearly
# orthogonal to every query, so that the loss falls at each restart for no reason, and a
# run on preemptible machines is not the run that was not stopped.
#
# Exit status: 0 if seen as told, 1 if not.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  lightly==1.6.0 torch==2.13.0 torchvision==0.28.0
"$work/venv/bin/python" - <<'PY'
import sys
from importlib.metadata import version

import torch

try:
    import torchvision
except RuntimeError:  # a build for GPUs beside torch for CPUs: its operators lack names
    for name in [name for name in sys.modules if name.startswith("torchvision")]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(name + "(Tensor dets, Tensor scores, float threshold) -> Tensor")
    import torchvision

from lightly.loss import NTXentLoss

torch.manual_seed(0)
made = NTXentLoss(memory_bank_size=(64, 16))
direction = torch.nn.functional.normalize(torch.randn(16), dim=0)
for _ in range(8):  # keys that are alike fill the queue
    keys = torch.nn.functional.normalize(direction + 0.01 * torch.randn(8, 16), dim=1)
    made(keys.clone().requires_grad_(), keys)
saved = made.state_dict()
resumed = NTXentLoss(memory_bank_size=(64, 16))
answer = resumed.load_state_dict(saved)
query = direction[None].clone().requires_grad_()
print("lightly", version("lightly"), "torchvision", torchvision.__version__)
print(f"  state_dict has {len(saved)} entries; load_state_dict says {answer}")
banks = made.memory_bank.bank, resumed.memory_bank.bank
alike = [float((bank @ direction).mean()) for bank in banks]
print(f"  mean cosine of queue and keys: {alike[0]:.2f} trained, {alike[1]:.2f} resumed")
losses = [float(loss(query, query.detach()).detach()) for loss in (made, resumed)]
print(f"  loss of the same query: {losses[0]:.2f} trained, {losses[1]:.2f} resumed")
as_told = not saved and not answer.missing_keys and not answer.unexpected_keys
sys.exit(not (as_told and alike[0] > 0.95 and abs(alike[1]) < 0.2 and losses[1] < losses[0]))
PY
echo "seen as told"
