"""Data production: places, acquisitions, pixels and class fractions, written into the cube.

What a user may import stands in ``__init__.pyi``. A name is imported when it is first used, so that
importing the package stays cheap.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
