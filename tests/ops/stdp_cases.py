"""Rules, shapes and spikes for the tests of ``stdp``."""

import torch

from snnfast import ops, plasticity

PLAIN = {
    "pair": plasticity.pair(0.01, 0.02, tau_pre=10, tau_post=30),
    "anti-Hebbian": plasticity.pair(-0.01, -0.02, w_min=-1.0),
    "pair, all spikes": plasticity.pair(0.01, 0.02, trace="all"),
    "soft bounds": plasticity.soft_bounds(0.02, 0.03, w_min=-0.5, w_max=1.5),
    "power law": plasticity.power_law(0.05, x_tar=0.3),
    "exponential": plasticity.exponential(0.05, beta=3.0),
    "pre and post": plasticity.pre_post(0.02, 0.05, mu=0.7),
    "triplet": plasticity.triplet(0.01, 0.02, lr_pre_triplet=0.01, lr_post_pair=0.01, trace="all"),
}
MODULATED = {f"reward, {k}": plasticity.reward_modulated(r, 7.0) for k, r in PLAIN.items()}
RULES = PLAIN | MODULATED


def sample(shape, dtype=torch.float64, rate=0.2, seed=0):
    """Return weights, pre- and postsynaptic spikes, and rewards."""
    num_steps, batch, n_pre, n_post = shape
    generator = torch.Generator().manual_seed(seed)
    w = torch.rand((n_post, n_pre), generator=generator, dtype=dtype)
    pre = torch.rand((num_steps, batch, n_pre), generator=generator) < rate
    post = torch.rand((num_steps, batch, n_post), generator=generator) < rate
    reward = torch.randn((num_steps, batch), generator=generator, dtype=dtype)
    reward[torch.rand((num_steps, batch), generator=generator) < 0.3] = 0
    return w, pre, post, reward


def with_reward(name, reward):
    return {"reward": reward} if name in MODULATED else {}


def on(device, *values):
    return [v.to(device) if isinstance(v, torch.Tensor) else v for v in values]


def kernel_call(shape, name, device, dtype=torch.float64):
    w, pre, post, reward = on(device, *sample(shape, dtype))
    return ops.stdp_.check(w, pre, post, rule=RULES[name], **with_reward(name, reward))
