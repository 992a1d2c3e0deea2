"""What MQTT takes for a topic and for a topic filter."""

from __future__ import annotations

import re
from typing import Final

_LEVEL: Final = r"[^+#/\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]"  # mosquitto hangs up on the odd ones
_LEVELS: Final = rf"(?:\+|{_LEVEL}*)(?:/(?:\+|{_LEVEL}*))*"
TOPIC: Final = rf"\A{_LEVEL}+(?:/{_LEVEL}+)*\Z"
"""Without empty levels, so that it can be put before others."""
FILTER: Final = rf"\A(?=.)(?:{_LEVELS}(?:/#)?|#)\Z"
MAX_CHARACTERS: Final = 1000  # MQTT allows 65,535 bytes


def is_filter(text: str) -> bool:
    """Whether a broker can be asked for this: + is a whole level, # the whole last one."""
    return re.search(FILTER, text) is not None
