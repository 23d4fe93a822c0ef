"""The demo VAE as one whole-clip forward, with the parameter names of ComfyUI's ``WanVAE``.

The stock class walks through a clip a few frames at a time with caches. Zero padding on the left
of the whole clip gives the same numbers, is differentiable and lets the compiler see one graph.
Training data, losses and export belong elsewhere.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Z_DIM = 16
DIM_MULT = (1, 2, 4, 4)
RES_BLOCKS = 2
# Which of the three downsampling stages also halve time (the loader's fixed configuration).
TIME_STRIDE = (False, True, True)


class Conv(nn.Module):
    """A convolution, causal if 3-D; its weight is kept as a matrix because Muon wants one."""

    def __init__(self, cin: int, cout: int, *kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.shape = (cout, cin, *kernel)
        self.stride = stride
        fan_in = cin * int(torch.tensor(kernel).prod())
        self.weight = nn.Parameter(torch.zeros(cout, fan_in))
        self.bias = nn.Parameter(torch.zeros(cout))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.to(x.dtype).view(self.shape)
        bias = self.bias.to(x.dtype)
        if x.ndim == 4:
            space = self.shape[-1] // 2 if self.stride == 1 else 0
            return F.conv2d(x, weight, bias, stride=self.stride, padding=space)
        time, space = self.shape[2], self.shape[-1] // 2
        if x.shape[2] == 1 and self.stride == 1:
            # One frame only ever meets the newest tap, the others would multiply padding.
            return F.conv3d(x, weight[:, :, -1:], bias, padding=(0, space, space))
        if self.stride == 1 and time > 1:
            x = F.pad(x, (0, 0, 0, 0, time - 1, 0))
        return F.conv3d(x, weight, bias, stride=(self.stride, 1, 1), padding=(0, space, space))


class Norm(nn.Module):
    """Channel-wise RMS norm."""

    def __init__(self, dim: int, extra: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim, *([1] * extra)))

    def forward(self, x: Tensor) -> Tensor:
        square = x.square().mean(1, keepdim=True, dtype=torch.float32)
        return x * torch.rsqrt(square + 1e-12).to(x.dtype) * self.gamma.to(x.dtype)


class Residual(nn.Module):
    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            Norm(cin, 3),
            nn.SiLU(),
            Conv(cin, cout, 3, 3, 3),
            Norm(cout, 3),
            nn.SiLU(),
            nn.Identity(),
            Conv(cout, cout, 3, 3, 3),
        )
        self.shortcut = Conv(cin, cout, 1, 1, 1) if cin != cout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.residual(x)


class Attention(nn.Module):
    """Single-head attention within each frame."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = Norm(dim, 2)
        self.to_qkv = Conv(dim, 3 * dim, 1, 1)
        self.proj = Conv(dim, dim, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        flat, t = fold_time(x)
        h, w = flat.shape[2:]
        q, k, v = self.to_qkv(self.norm(flat)).flatten(2).transpose(1, 2).chunk(3, dim=2)
        mixed = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        mixed = self.proj(mixed.transpose(1, 2).unflatten(2, (h, w)))
        return x + unfold_time(mixed, t)


class Down(nn.Module):
    def __init__(self, dim: int, time: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), Conv(dim, dim, 3, 3, stride=2))
        self.time_conv = Conv(dim, dim, 3, 1, 1, stride=2) if time else None

    def forward(self, x: Tensor) -> Tensor:
        flat, t = fold_time(x)
        x = unfold_time(self.resample(flat), t)
        if self.time_conv is None or t == 1:
            return x
        return torch.cat([x[:, :, :1], self.time_conv(x)], dim=2)


class Up(nn.Module):
    def __init__(self, dim: int, time: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(nn.Upsample(scale_factor=2.0), Conv(dim, dim // 2, 3, 3))
        self.time_conv = Conv(dim, 2 * dim, 3, 1, 1) if time else None

    def forward(self, x: Tensor) -> Tensor:
        if self.time_conv is not None and x.shape[2] > 1:
            # The first latent frame stays one picture and is no past of the others here.
            rest = self.time_conv(x[:, :, 1:])
            b, c, t, h, w = rest.shape
            rest = rest.view(b, 2, c // 2, t, h, w).permute(0, 2, 3, 1, 4, 5)
            x = torch.cat([x[:, :, :1], rest.reshape(b, c // 2, 2 * t, h, w)], dim=2)
        flat, t = fold_time(x)
        return unfold_time(self.resample(flat), t)


def fold_time(x: Tensor) -> tuple[Tensor, int]:
    """``(B, C, T, H, W)`` to ``(B T, C, H, W)``, channels last."""
    return x.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last), x.shape[2]


def unfold_time(x: Tensor, t: int) -> Tensor:
    clip = x.unflatten(0, (-1, t)).transpose(1, 2)
    return clip.contiguous(memory_format=torch.channels_last_3d)


class Encoder(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        widths = [dim * m for m in (1, *DIM_MULT)]
        self.conv1 = Conv(3, widths[0], 3, 3, 3)
        layers: list[nn.Module] = []
        for i, (cin, cout) in enumerate(pairwise(widths)):
            layers += [Residual(cin if n == 0 else cout, cout) for n in range(RES_BLOCKS)]
            if i < len(TIME_STRIDE):
                layers.append(Down(cout, TIME_STRIDE[i]))
        self.downsamples = nn.Sequential(*layers)
        top = widths[-1]
        self.middle = nn.Sequential(Residual(top, top), Attention(top), Residual(top, top))
        self.head = nn.Sequential(Norm(top, 3), nn.SiLU(), Conv(top, 2 * Z_DIM, 3, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self.downsamples(self.conv1(x))))


class Decoder(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        widths = [dim * m for m in (DIM_MULT[-1], *reversed(DIM_MULT))]
        top = widths[0]
        self.conv1 = Conv(Z_DIM, top, 3, 3, 3)
        self.middle = nn.Sequential(Residual(top, top), Attention(top), Residual(top, top))
        layers: list[nn.Module] = []
        for i, (cin, cout) in enumerate(pairwise(widths)):
            cin = cin if i == 0 else cin // 2
            layers += [Residual(cin if n == 0 else cout, cout) for n in range(RES_BLOCKS + 1)]
            if i < len(TIME_STRIDE):
                layers.append(Up(cout, TIME_STRIDE[::-1][i]))
        self.upsamples = nn.Sequential(*layers)
        self.head = nn.Sequential(Norm(widths[-1], 3), nn.SiLU(), Conv(widths[-1], 3, 3, 3, 3))

    def forward(self, z: Tensor) -> Tensor:
        return self.head(self.upsamples(self.middle(self.conv1(z))))


class ClipVAE(nn.Module):
    """Encode ``(B, 3, 1 + 4n, H, W)`` in [-1, 1] to ``(B, 16, 1 + n, H / 8, W / 8)`` and back."""

    def __init__(self, dim: int, seed: int = 0) -> None:
        super().__init__()
        self.encoder = Encoder(dim)
        self.conv1 = Conv(2 * Z_DIM, 2 * Z_DIM, 1, 1, 1)
        self.conv2 = Conv(Z_DIM, Z_DIM, 1, 1, 1)
        self.decoder = Decoder(dim)
        generator = torch.Generator().manual_seed(seed)
        for name, module in self.named_modules():
            if isinstance(module, Conv):
                std = module.weight.shape[1] ** -0.5
                # Residual branches start small, so that depth does not blow up at the start.
                gain = 0.3 if name.endswith((".6", "proj")) else 1.0
                noise = torch.randn(module.shape, generator=generator) * std * gain
                if len(module.shape) == 5 and module.shape[2] == 3:
                    # Pictures are learned first; a small past lets clips start from them.
                    noise[:, :, :2] *= 0.3
                    noise[:, :, 2] *= 1.6
                if name.endswith("time_conv"):
                    eye = torch.eye(module.shape[1]).repeat(module.shape[0] // module.shape[1], 1)
                    noise = 0.1 * noise
                    noise[:, :, 2, 0, 0] += eye
                module.weight.data.copy_(noise.flatten(1))
        # Start almost noiseless: a wide posterior hides colour for the first hundreds of steps.
        self.conv1.weight.data[Z_DIM:] *= 0.1
        self.conv1.bias.data[Z_DIM:] = -5.0

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latents."""
        mean, log_var = self.conv1(self.encoder(x)).chunk(2, dim=1)
        return mean, log_var.clamp(-12.0, 4.0)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(self.conv2(z))

    def stock_state_dict(self) -> dict[str, Tensor]:
        """The parameters in the shapes of ComfyUI's ``WanVAE``."""
        state = {name: value.detach().float() for name, value in self.state_dict().items()}
        for name, module in self.named_modules():
            if isinstance(module, Conv):
                state[f"{name}.weight"] = state[f"{name}.weight"].view(module.shape)
        return {name: value.contiguous().clone() for name, value in state.items()}

    def load_stock(self, state: dict[str, Tensor]) -> None:
        own = self.state_dict()
        self.load_state_dict({k: v.float().reshape(own[k].shape) for k, v in state.items()})
