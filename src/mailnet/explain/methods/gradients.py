"""Gradients by the inputs themselves: saliency, and integrated gradients, each also smoothed over noise.

Both are captum's.

Sources: Simonyan, Vedaldi, Zisserman, "Deep Inside Convolutional Networks", ICLR 2014 workshop; Sundararajan, Taly,
Yan, "Axiomatic Attribution for Deep Networks", ICML 2017; Smilkov, Thorat, Kim, Viegas, Wattenberg, "SmoothGrad:
removing noise by adding noise", 2017, arXiv 1706.03825.
"""

from __future__ import annotations

from typing import Any

import torch
from captum.attr import InputXGradient, IntegratedGradients, NoiseTunnel, Saliency
from torch import Tensor

from mailnet.explain.baselines import Baseline, baselines
from mailnet.explain.question import Question
from mailnet.explain.registry import Found, register_explainer
from mailnet.explain.tuples import CHUNK, Tuples


@register_explainer("gradient")
def gradient(question: Question, *, times_input: bool = False, smooth: int = 0, noise: float = 0.1) -> Found:
    """Return the size of the score's slope at each pixel and column.

    Args:
        question: What is asked.
        times_input: Return the slope times the input, which has a sign.
        smooth: Noisy copies of each study that are averaged (SmoothGrad); 0 for none.
        noise: Standard deviation of their noise, in the units of the inputs.

    Raises:
        ValueError: A negative number of copies or noise.
    """
    tuples = Tuples(question)
    method = InputXGradient(tuples.forward) if times_input else Saliency(tuples.forward)
    options = {"additional_forward_args": tuples.others}
    values = _smoothed(question, method, tuples.inputs, smooth, noise, options)
    return Found(tuples.maps(values), tuples.columns(values), signed=times_input)


@register_explainer("integrated_gradients")
def integrated_gradients(
    question: Question, *, baseline: Baseline = "blur", steps: int = 32, smooth: int = 0, noise: float = 0.1
) -> Found:
    """Return the slope along the way from a baseline to the study, times the way; its parts add up to the difference.

    Args:
        question: What is asked.
        baseline: See ``baselines``.
        steps: Points on the way.
        smooth: As of ``gradient``; what then adds up is the mean difference of the noisy copies.
        noise: As of ``gradient``.

    Raises:
        ValueError: No step, a negative number of copies or noise, or a baseline that is refused.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    tuples = Tuples(question)
    options = {
        "additional_forward_args": tuples.others,
        "baselines": tuples.of(baselines(question, baseline)),
        "n_steps": steps,
        "internal_batch_size": max(CHUNK, len(question)),
        "return_convergence_delta": True,
    }
    values, residual = _smoothed(question, IntegratedGradients(tuples.forward), tuples.inputs, smooth, noise, options)
    residual = residual.detach().reshape(-1, len(question)).mean(0)  # of all studies, one noisy copy after the other
    return Found(tuples.maps(values), tuples.columns(values), signed=True, residual=residual)


def _smoothed(
    question: Question, method: Any, inputs: tuple[Tensor, ...], smooth: int, noise: float, options: dict[str, Any]
) -> Any:
    if smooth < 0 or noise < 0:
        raise ValueError(f"smooth and noise must not be negative, got {smooth} and {noise}")
    inputs = tuple(x.detach().requires_grad_() for x in inputs)
    if smooth == 0:
        return method.attribute(inputs, **options)
    # captum's noise comes from torch's global numbers.
    with torch.random.fork_rng():
        torch.manual_seed(question.seed())
        return NoiseTunnel(method).attribute(
            inputs,
            nt_samples=smooth,
            nt_samples_batch_size=1,
            stdevs=float(noise),
            **options,
        )
