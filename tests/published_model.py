"""Networks in the idioms of published ones, as their model files write them; tests/plain_jelly.py loads this file."""

import torch
from spikingjelly.clock_driven import layer
from spikingjelly.clock_driven.neuron import MultiStepIFNode, MultiStepLIFNode, MultiStepParametricLIFNode
from torch import nn


def lif(**named):
    return MultiStepLIFNode(tau=2.0, detach_reset=True, backend="cupy", **named)


class Attention(nn.Module):
    """Linear layers and BatchNorm1d over ``[T B, N, C]``, and products of spikes: Spikformer."""

    def __init__(self, dim=12, heads=2):
        super().__init__()
        self.heads = heads
        self.q_linear, self.q_bn, self.q_lif = nn.Linear(dim, dim), nn.BatchNorm1d(dim), lif()
        self.k_linear, self.k_bn, self.k_lif = nn.Linear(dim, dim), nn.BatchNorm1d(dim), lif()
        self.attn_lif = lif(v_threshold=0.5)
        self.proj_linear, self.proj_bn, self.proj_lif = nn.Linear(dim, dim), nn.BatchNorm1d(dim), lif()

    def forward(self, x):
        T, B, N, C = x.shape
        folded = x.flatten(0, 1)
        q = self.q_bn(self.q_linear(folded).transpose(-1, -2)).transpose(-1, -2).reshape(T, B, N, C).contiguous()
        k = self.k_bn(self.k_linear(folded).transpose(-1, -2)).transpose(-1, -2).reshape(T, B, N, C).contiguous()
        sizes = (T, B, N, self.heads, C // self.heads)
        q, k = (y.reshape(sizes).permute(0, 1, 3, 2, 4).contiguous() for y in (self.q_lif(q), self.k_lif(k)))
        y = (q @ k.transpose(-2, -1)) @ k
        y = self.attn_lif(y.transpose(2, 3).reshape(T, B, N, C).contiguous()).flatten(0, 1)
        return x + self.proj_lif(
            self.proj_bn(self.proj_linear(y).transpose(-1, -2)).transpose(-1, -2).reshape(T, B, N, C)
        )


class Spikformer(nn.Module):
    """Images are copied to all steps, and time is folded by hand around convolutions."""

    def __init__(self, T=4, dim=12):
        super().__init__()
        self.T = T
        self.conv1, self.bn1, self.lif1 = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), lif()
        self.conv2, self.bn2, self.lif2 = nn.Conv2d(6, dim, 3, padding=1, bias=False), nn.BatchNorm2d(dim), lif()
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.block = Attention(dim)
        self.head = nn.Linear(dim, 5)

    def forward(self, x):
        x = x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
        T, B, _, H, W = x.shape
        x = self.bn1(self.conv1(x.flatten(0, 1))).reshape(T, B, -1, H, W).contiguous()
        x = self.lif1(x).flatten(0, 1).contiguous()
        x = self.bn2(self.conv2(x)).reshape(T, B, -1, H, W).contiguous()
        x = self.pool(self.lif2(x).flatten(0, 1).contiguous())
        x = x.reshape(T, B, -1, H // 2, W // 2).contiguous().flatten(-2).transpose(-1, -2)
        return self.head(self.block(x).mean(2).mean(0))


class QKFormer(nn.Module):
    """Conv1d of kernel 1 over ``[T B, C, N]``, and a shortcut with a convolution of kernel 1."""

    def __init__(self, T=4, dim=8):
        super().__init__()
        self.T = T
        self.conv, self.bn, self.lif = nn.Conv2d(3, dim, 3, padding=1, bias=False), nn.BatchNorm2d(dim), lif()
        self.res_conv, self.res_bn = nn.Conv2d(dim, dim, 1, stride=2, bias=False), nn.BatchNorm2d(dim)
        self.res_lif = MultiStepParametricLIFNode(init_tau=2.0, detach_reset=True, backend="cupy")
        self.q_conv, self.q_bn, self.q_lif = nn.Conv1d(dim, dim, 1, bias=False), nn.BatchNorm1d(dim), lif()
        self.k_conv, self.k_bn, self.k_lif = nn.Conv1d(dim, dim, 1, bias=False), nn.BatchNorm1d(dim), lif()
        self.attn_lif = lif(v_threshold=0.5)
        self.proj_conv, self.proj_bn, self.proj_lif = nn.Conv1d(dim, dim, 1), nn.BatchNorm1d(dim), lif()
        self.head = nn.Linear(dim, 5)

    def forward(self, x):
        x = x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
        T, B, C, H, W = x.shape
        x = self.lif(self.bn(self.conv(x.flatten(0, 1))).reshape(T, B, -1, H, W)).flatten(0, 1)
        x = self.res_lif(self.res_bn(self.res_conv(x)).reshape(T, B, -1, H // 2, W // 2).contiguous())
        x = x.flatten(3)
        T, B, C, N = x.shape
        folded = x.flatten(0, 1)
        q = self.q_lif(self.q_bn(self.q_conv(folded)).reshape(T, B, C, N))
        k = self.k_lif(self.k_bn(self.k_conv(folded)).reshape(T, B, C, N))
        y = torch.mul(self.attn_lif(torch.sum(q, dim=2, keepdim=True)), k)
        y = self.proj_lif(self.proj_bn(self.proj_conv(y.flatten(0, 1))).reshape(T, B, C, N))
        return self.head((x + y).mean(3).mean(0))


class Block(nn.Module):
    """Two convolutions in SpikingJelly's containers, and spikes added in place: SEW-ResNet."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = layer.SeqToANNContainer(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)
        )
        self.sn1 = MultiStepIFNode(detach_reset=True)
        self.conv2 = layer.SeqToANNContainer(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)
        )
        self.sn2 = MultiStepIFNode(detach_reset=True)

    def forward(self, x):
        out = self.sn2(self.conv2(self.sn1(self.conv1(x))))
        out += x
        return out


class SEWResNet(nn.Module):
    def __init__(self, T=4):
        super().__init__()
        self.T = T
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(8)
        self.sn1 = MultiStepIFNode(detach_reset=True)
        self.maxpool = layer.SeqToANNContainer(nn.MaxPool2d(3, stride=2, padding=1))
        self.layer1 = nn.Sequential(Block(8), Block(8))
        self.avgpool = layer.SeqToANNContainer(nn.AdaptiveAvgPool2d((1, 1)))
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = self.bn1(self.conv1(x))
        x.unsqueeze_(0)
        x = self.maxpool(self.sn1(x.repeat(self.T, 1, 1, 1, 1)))
        return self.fc(torch.flatten(self.avgpool(self.layer1(x)), 2).mean(dim=0))
