"""A model as lines of a configuration."""

from collections.abc import Mapping

import varpro as vp

from .candidates import Candidate

_POSITIVE = ("tau", "width", "fwhm", "sigma", "gamma", "hwhm")


def model_lines(candidate: Candidate, starts: Mapping[str, float]) -> tuple[list[str], list[str]]:
    """Responses and components with rounded starts."""
    model = candidate.model
    responses: dict[str, str] = {}
    lines = []
    kinds = {basis: kind for kind, basis in vp.basis.KINDS.items()}
    for part in model.parts if isinstance(model, vp.basis.Sum) else (model,):
        keys = [f"kind: {kinds[type(part)]}"]
        if isinstance(part, vp.Polynomial):
            keys.append(f"degree: {part.degree}")
        if isinstance(part, vp.Step) and part.shape != "erf":
            keys.append(f"shape: {part.shape}")
        for local in part.parameters:
            owner, _, local_name = local.rpartition(".")
            full = part.parameter_name(local)
            value = f"{starts[full]:.5g}"
            text = f"{{init: {value}, lower: 0}}" if local_name in _POSITIVE else value
            if local_name == "rate" and starts[full] > 0:
                text = f"{{init: {value}, lower: 0}}"
            if local_name == "eta":
                text = f"{{init: {value}, lower: 0, upper: 1}}"
            if local_name == "beta":
                text = f"{{init: {value}, lower: 0.1, upper: 2}}"
            if full in candidate.fixed:
                text = f"{{init: {value}, fixed: true}}"
            if not owner:
                keys.append(f"{local_name}: {text}")
            elif f"{local_name}: " not in responses.get(owner, ""):
                said = [*filter(None, [responses.get(owner)]), f"{local_name}: {text}"]
                responses[owner] = ", ".join(said)
            if owner and f"irf: {owner}" not in keys:
                keys.append(f"irf: {owner}")
        lines.append(f"{part.name}: {{{', '.join(keys)}}}")
    return [f"{name}: {{{keys}}}" for name, keys in responses.items()], lines
