"""The training loss of the paper: squared error, and a variational bound for the variance."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from latte_core.errors import ConfigError, ShapeError

Prediction = Literal["epsilon", "v_prediction"]
TRAIN_STEPS, BETA_START, BETA_END = 1000, 1e-4, 0.02  # linear; source: DDPM, kept by Latte
HALF_BIN = 1 / 255  # half the distance of two 8-bit values on -1..1; source: Improved DDPM


class LossTerms(NamedTuple):
    """Losses per sample, each (B,): the squared error and the variational bound in bits."""

    mse: Tensor
    vb: Tensor

    @property
    def total(self) -> Tensor:
        """What is minimised: both terms, unscaled, averaged over the batch."""
        return (self.mse + self.vb).mean()


class DiffusionLoss:
    """Noising and loss on the 1000-step linear chain.

    `prediction` says what the network's first half of channels means; with `learned_variance` the
    second half interpolates the log-variance between the posterior's and beta's (Improved DDPM,
    arXiv 2102.09672, eq. 15). The bound trains only the variance: it sees the mean detached.
    """

    def __init__(self, prediction: Prediction = "epsilon", learned_variance: bool = True) -> None:
        if prediction not in ("epsilon", "v_prediction"):
            raise ConfigError(f"prediction is {prediction!r}; it can be epsilon or v_prediction.")
        self.prediction = prediction
        self.learned_variance = learned_variance
        betas = torch.linspace(BETA_START, BETA_END, TRAIN_STEPS, dtype=torch.float64)
        alphas_cumprod = (1 - betas).cumprod(0)
        previous = torch.cat([torch.ones(1, dtype=torch.float64), alphas_cumprod[:-1]])
        posterior = betas * (1 - previous) / (1 - alphas_cumprod)
        self._tables = {
            "signal": alphas_cumprod.sqrt(),
            "noise": (1 - alphas_cumprod).sqrt(),
            "log_beta": betas.log(),
            # The first posterior variance is 0; its logarithm is taken from the second.
            "log_posterior": torch.cat([posterior[1:2], posterior[1:]]).log(),
            "mean_x0": betas * previous.sqrt() / (1 - alphas_cumprod),
            "mean_xt": (1 - previous) * (1 - betas).sqrt() / (1 - alphas_cumprod),
        }

    def add_noise(self, x0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Latents (B, C, F, h, w) at timesteps (B,) or, each frame's own, (B, F) in 0..999."""
        return self._at("signal", timesteps, x0) * x0 + self._at("noise", timesteps, x0) * noise

    def __call__(
        self,
        model_output: Tensor,
        x0: Tensor,
        noise: Tensor,
        timesteps: Tensor,
        *,
        loss_mask: Tensor | None = None,
    ) -> LossTerms:
        """Compare the network's output for `add_noise(x0, noise, timesteps)` with the truth.

        model_output (B, C or 2C, F, h, w), x0 and noise (B, C, F, h, w), timesteps as there.
        loss_mask weighs frames (B, F) or places in them (B, F, h, w): 0 leaves one out. Computed in
        float32.
        """
        channels = x0.shape[1] * (2 if self.learned_variance else 1)
        if model_output.shape != (x0.shape[0], channels, *x0.shape[2:]):
            raise ShapeError(
                f"The model's output has shape {tuple(model_output.shape)}, but latents of shape "
                f"{tuple(x0.shape)} need {channels} channels of the same frames and size."
            )
        model_output, x0, noise = model_output.float(), x0.float(), noise.float()
        predicted = model_output[:, : x0.shape[1]]
        mse = _mean((self._target(x0, noise, timesteps) - predicted).square(), loss_mask)
        if not self.learned_variance:
            return LossTerms(mse, torch.zeros_like(mse))
        terms = self._bound(
            predicted.detach(), model_output[:, x0.shape[1] :], x0, noise, timesteps
        )
        return LossTerms(mse, _mean(terms, loss_mask))

    def predict_x0(self, predicted: Tensor, latents: Tensor, timesteps: Tensor) -> Tensor:
        """Clean latents from noisy ones and what the network predicts, all (B, C, F, h, w)."""
        signal = self._at("signal", timesteps, latents)
        spread = self._at("noise", timesteps, latents)
        if self.prediction == "epsilon":
            return (latents - spread * predicted) / signal
        return signal * latents - spread * predicted

    def _target(self, x0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the network should predict."""
        if self.prediction == "epsilon":
            return noise
        signal, spread = self._at("signal", timesteps, x0), self._at("noise", timesteps, x0)
        return signal * noise - spread * x0

    def _bound(
        self, predicted: Tensor, variance: Tensor, x0: Tensor, noise: Tensor, timesteps: Tensor
    ) -> Tensor:
        """Bits per element: KL of the posteriors, at timestep 0 the decoder's log-likelihood."""
        latents = self.add_noise(x0, noise, timesteps)
        low, high = self._at("log_posterior", timesteps, x0), self._at("log_beta", timesteps, x0)
        log_var = low + (variance + 1) / 2 * (high - low)
        by_x0, by_xt = self._at("mean_x0", timesteps, x0), self._at("mean_xt", timesteps, x0)
        mean = by_x0 * self.predict_x0(predicted, latents, timesteps) + by_xt * latents
        true_mean = by_x0 * x0 + by_xt * latents
        kl = _normal_kl(true_mean, low, mean, log_var)
        decoder = -_log_likelihood(x0, mean, log_var / 2)
        first = _over_latents(timesteps == 0)
        return torch.where(first, decoder, kl) / math.log(2)

    def _at(self, name: str, timesteps: Tensor, like: Tensor) -> Tensor:
        """One table's values at timesteps (B,) or (B, F), shaped to broadcast over `like`."""
        table = self._tables[name].float().to(timesteps.device)
        return _over_latents(table[timesteps]).to(like.dtype)


def _over_latents(values: Tensor) -> Tensor:
    """Values (B,) or (B, F) as (B, 1, 1 or F, 1, 1)."""
    return values.reshape(len(values), 1, -1, 1, 1)


def _mean(values: Tensor, loss_mask: Tensor | None) -> Tensor:
    """Mean of (B, C, F, h, w) per sample, weighted by (B, F) or (B, F, h, w)."""
    places = values.mean(dim=1)
    if loss_mask is None:
        return places.mean(dim=(1, 2, 3))
    weights = loss_mask.reshape(*loss_mask.shape, *[1] * (4 - loss_mask.dim())).to(places.dtype)
    weights = weights.expand_as(places)
    return (places * weights).sum((1, 2, 3)) / weights.sum((1, 2, 3)).clamp_min(1e-12)


def _normal_kl(mean1: Tensor, log_var1: Tensor, mean2: Tensor, log_var2: Tensor) -> Tensor:
    """KL divergence of two Gaussians per element, in nats."""
    ratio = (log_var1 - log_var2).exp() + (mean1 - mean2).square() * (-log_var2).exp()
    return 0.5 * (log_var2 - log_var1 - 1 + ratio)


def _log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log-probability of 8-bit values on -1..1 under a Gaussian, the outer bins being open."""
    centred, inverse = x - mean, (-log_scale).exp()
    above = _normal_cdf(inverse * (centred + HALF_BIN))
    below = _normal_cdf(inverse * (centred - HALF_BIN))
    inner = (above - below).clamp_min(1e-12).log()
    highest = (1 - below).clamp_min(1e-12).log()
    lowest = above.clamp_min(1e-12).log()
    return torch.where(x < -0.999, lowest, torch.where(x > 0.999, highest, inner))


def _normal_cdf(x: Tensor) -> Tensor:
    """The tanh approximation of the normal distribution that the published losses use."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
