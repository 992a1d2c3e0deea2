"""Home Assistant's own verdict on a discovery payload; run by a Python that has the package `homeassistant`.

    python3.13 -m venv ha && ha/bin/pip install homeassistant paho-mqtt
    HARD_HOMEASSISTANT=ha/bin/python pytest tests/test_homeassistant.py

Reads {"config": payload, "messages": {topic: payload}}. The abbreviations, the schemas of the device and of
every component, and the templates' engine are Home Assistant's. Prints what each component makes of the
message on its topic, as JSON.
"""

import asyncio
import importlib
import json
import sys
import tempfile

from homeassistant.components.mqtt import discovery, models, schemas
from homeassistant.core import HomeAssistant
from homeassistant.helpers.template import Template
from homeassistant.util.json import json_loads_object


async def main() -> None:
    hass = HomeAssistant(tempfile.mkdtemp())  # templates belong to one
    given = json.load(sys.stdin)
    payload = discovery.MQTTDiscoveryPayload(json_loads_object(given["config"]))
    discovery._replace_all_abbreviations(payload)
    schemas.DEVICE_DISCOVERY_SCHEMA(payload)
    made = {}
    for key, component in payload["components"].items():
        config = discovery.MQTTDiscoveryPayload(component)
        platform = config.pop("platform")
        config["device"], config["origin"] = payload["device"], payload["origin"]
        discovery._merge_common_device_options(config, payload)
        name = "device_trigger" if platform == "device_automation" else platform
        module = importlib.import_module(f"homeassistant.components.mqtt.{name}")
        is_trigger = name == "device_trigger"
        checked = (module.TRIGGER_DISCOVERY_SCHEMA if is_trigger else module.DISCOVERY_SCHEMA)(config)
        ignored = set(component) - set(checked) - {"platform"}
        assert not ignored, f"{key}: Home Assistant ignores {sorted(ignored)}"
        message = given["messages"].get(config.get("state_topic") or config["topic"])
        if message is not None:
            template = Template(component["value_template"], hass)
            made[key] = models.MqttValueTemplate(template).async_render_with_possible_json_value(message, "")
            if is_trigger:
                made[key] = made[key] == config["payload"]
    (availability,) = payload["availability"]
    template = models.MqttValueTemplate(Template(availability["value_template"], hass))
    for status in ("online", "stopped", "offline"):
        made[status] = template.async_render_with_possible_json_value(status, "")
    print(json.dumps({"components": len(payload["components"]), "values": made}))
    await hass.async_stop(force=True)


asyncio.run(main())
