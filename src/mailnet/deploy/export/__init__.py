"""Files of a trained network that run without mailnet: ONNX and ``torch.export``, in less precision if wanted."""

from mailnet.deploy.export.program import read_program
from mailnet.deploy.export.run import export_run

__all__ = ["export_run", "read_program"]
