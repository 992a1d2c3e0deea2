"""What Home Assistant is told of a device: the payload of its device-based MQTT discovery."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias, Union

from hard import __version__
from hard.types import UNKNOWN

Json: TypeAlias = Union[Mapping[str, "Json"], Sequence["Json"], str, int, bool]  # noqa: UP007

STILL: Final = frozenset({"sitting", "standing", "laying", "lying", "still"})
"""Activities of a person who does not move about; every other label of a model is one who does."""
UNTOLD: Final = (UNKNOWN, "other")
"""Labels that say nothing of moving: before a camera, `other` is also nobody."""


def object_id(prefix: str, device: str) -> str:
    """An id of [a-zA-Z0-9_-] that stays the same for ever and belongs to this device alone.

    Where the name had to be changed, a hash keeps `a b` and `a.b` apart; so it does for the prefixes of two
    daemons on one broker.
    """
    name = f"{prefix}_{device}"
    clean = re.sub(r"[^a-zA-Z0-9_-]", "_", name)
    if clean == name and prefix == "hard":
        return clean
    return f"{clean}_{hashlib.sha256(f'{prefix}/{device}'.encode()).hexdigest()[:8]}"


def config_topic(discovery_prefix: str, prefix: str, device: str) -> str:
    return f"{discovery_prefix}/device/{object_id(prefix, device)}/config"


def config_payload(
    prefix: str, device: str, model: str, labels: Sequence[str], *, gone: Iterable[str] = (),
    expire_after_s: int, qos: int,
) -> bytes:  # fmt: skip
    """JSON of one Home Assistant device with all its entities and triggers.

    `gone`: labels announced before. A component that is merely absent would stay; one of a platform and
    nothing else is removed, or was never there.
    """
    node = object_id(prefix, device)
    base = f"{prefix}/{device}"
    activities = [*labels, *(() if UNKNOWN in labels else (UNKNOWN,))]
    moving = [name for name in labels if name not in STILL and name not in UNTOLD]

    def entity(platform: str, key: str, name: str, template: str, **more: Json) -> dict[str, Json]:
        entity_id = re.sub(r"[^a-z0-9]+", "_", f"{node}_{key}".lower()).strip("_")
        return {
            "p": platform,
            "unique_id": f"{node}_{key}",
            "default_entity_id": f"{platform}.{entity_id}",
            "name": name,
            "value_template": "{{ " + template + " }}",
            "qos": qos,
            **more,
        }

    def of_label(platform: str, key: str, name: str, template: str, **more: Json) -> dict[str, Json]:
        topic = f"{base}/activity"
        return entity(platform, key, name, template, state_topic=topic, expire_after=expire_after_s, **more)

    measured: dict[str, Json] = {"state_class": "measurement", "entity_category": "diagnostic"}
    components: dict[str, Json] = {
        **{key: {"p": platform} for name in gone for key, platform in _of_activity(name).items()},
        "activity": of_label(
            "sensor", "activity", "Activity", "value_json.activity",
            device_class="enum", options=activities, icon="mdi:run",
        ),
        "confidence": of_label(
            "sensor", "confidence", "Confidence", "(value_json.confidence * 100) | round(1)",
            unit_of_measurement="%", suggested_display_precision=0, icon="mdi:gauge", **measured,
        ),
        "moving": of_label(
            "binary_sensor", "moving", "Moving",
            f"'None' if value_json.activity in {json.dumps(UNTOLD)} else "
            f"'ON' if value_json.activity in {json.dumps(moving)} else 'OFF'",
            device_class="moving",
        ),
        "rate": of_label(
            "sensor", "rate", "Input rate", "value_json.rate_hz | round(1)",
            device_class="frequency", unit_of_measurement="Hz", suggested_display_precision=1, **measured,
        ),
    }  # fmt: skip
    for name in labels:
        key = f"total_{_key(name)}"
        components[key] = entity(
            "sensor", key, f"{name.replace('_', ' ').capitalize()} today",
            f"value_json.seconds.get({json.dumps(name)}, 0) | round(0)", state_topic=f"{base}/totals",
            device_class="duration", unit_of_measurement="s", state_class="total_increasing",
        )  # fmt: skip
    for name in labels:
        if name == UNKNOWN:
            continue  # it has no events
        for change in ("enter", "exit"):
            components[f"{change}_{_key(name)}"] = {
                "p": "device_automation",
                "automation_type": "trigger",
                "type": change,
                "subtype": name,
                "topic": f"{base}/event",
                "value_template": "{{ value_json.type ~ ' ' ~ value_json.activity }}",
                "payload": f"{change} {name}",
                "qos": qos,
            }
    return json.dumps(
        {
            "dev": {"ids": [node], "name": device, "mf": "hard", "mdl": model, "sw": __version__},
            "o": {"name": "hard", "sw": __version__},
            "availability": [
                {
                    "topic": f"{prefix}/status",
                    # `stopped` and `offline` both mean that nobody is there
                    "value_template": "{{ 'online' if value == 'online' else 'offline' }}",
                    "payload_available": "online",
                    "payload_not_available": "offline",
                }
            ],
            "cmps": components,
        },
        ensure_ascii=False,
    ).encode()


def _key(label: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_-]", "_", label)


def _of_activity(label: str) -> dict[str, str]:
    """The components that a label has to itself: key -> platform."""
    platforms = {"total": "sensor", "enter": "device_automation", "exit": "device_automation"}
    return {f"{kind}_{_key(label)}": platform for kind, platform in platforms.items()}
