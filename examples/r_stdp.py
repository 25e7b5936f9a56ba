"""R-STDP: a layer learns only from rewards which action belongs to each stimulus.

A stimulus makes one group of inputs fire; the output that fires most is the action and silences the others. At the end
of the trial comes the reward: 1 for the right action and 0 for a wrong one, minus a running mean for this stimulus. The
synapses do not get the right action.

python examples/r_stdp.py
"""

import argparse

import torch
from torch import nn

from snnfast import learning, ops, plasticity
from snnfast.nn import LIF

ACTIONS, GROUP, STEPS = 4, 25, 100


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100, help="batches of trials")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--seed", type=int, default=0)
    opt = parser.parse_args()
    generator = torch.Generator().manual_seed(opt.seed)

    linear = nn.Linear(ACTIONS * GROUP, ACTIONS, bias=False)
    with torch.no_grad():
        linear.weight.copy_(0.4 + 0.2 * torch.rand(linear.weight.shape, generator=generator))
    neurons = LIF(tau=10.0, decay_input=False, v_threshold=5.0)
    rule = plasticity.reward_modulated(plasticity.pair(lr_pre=0.0, lr_post=opt.lr), tau_eligibility=100.0)
    learner = learning.STDP(linear, rule, reduction="mean")
    usual = torch.zeros(ACTIONS)  # running mean of the reward, by stimulus

    for trial in range(1, opt.trials + 1):
        stimulus = torch.randint(ACTIONS, (opt.batch_size,), generator=generator)
        active = nn.functional.one_hot(stimulus, ACTIONS).repeat_interleave(GROUP, 1)
        # 50 Hz in the group of the stimulus, 5 Hz elsewhere, in steps of 1 ms.
        pre = ops.poisson(0.005 + 0.045 * active, STEPS, generator=generator)
        with torch.no_grad():
            post = neurons(linear(pre))
        counts = post.sum(0)
        # Equal counts are decided by chance.
        action = (counts + torch.rand(counts.shape, generator=generator)).argmax(1)

        learner.reset()
        learner.run(pre, post * nn.functional.one_hot(action, ACTIONS))
        right = (action == stimulus).float()
        learner.reward(right - usual[stimulus])
        for s in range(ACTIONS):
            if (stimulus == s).any():
                usual[s] += 0.1 * (right[stimulus == s].mean() - usual[s])
        if trial % max(opt.trials // 10, 1) == 0:
            print(f"trial {trial}: right {100 * usual.mean():.0f} % (chance {100 / ACTIONS:.0f} %)")

    print("mean weight from each stimulus's inputs (columns) to each action (rows):")
    for row in linear.weight.detach().view(ACTIONS, ACTIONS, GROUP).mean(2).tolist():
        print("  " + "  ".join(f"{w:.2f}" for w in row))


if __name__ == "__main__":
    main()
