"""The plain script that most people write, to measure `hard` against: tools/bench.py naive.

One message at a time: paho's callback, `json`, `sosfilt`, one forward a window, one publish. It reads the
native JSON twin on hard/<device>/imu, 50 samples a second, and knows nothing of gaps, clocks or jitter.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import paho.mqtt.client as mqtt
import torch
import yaml
from paho.mqtt.enums import CallbackAPIVersion
from scipy.signal import butter, sosfilt, sosfilt_zi

G = 9.80665
SOS = butter(3, 0.3, fs=50.0, output="sos")


class Device:
    def __init__(self, first: np.ndarray) -> None:
        self.zi = sosfilt_zi(SOS)[:, :, None] * first[None, None, :]  # (sections, 2, 3)
        self.rows: list[np.ndarray] = []
        self.state: torch.Tensor | None = None


def main() -> None:
    if len(sys.argv) != 4:
        sys.exit("usage: naive_daemon.py HOST PORT MODEL_FOLDER")
    host, port, model = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    card = yaml.safe_load((model / "card.yaml").read_text("utf-8"))
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = torch.jit.load(model / "model.pt").eval()  # type: ignore[no-untyped-call]
    devices: dict[str, Device] = {}

    def on_message(client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        name = message.topic.split("/")[1]
        samples = np.array(json.loads(message.payload)["samples"])  # (n, 6) m/s², rad/s
        acc = samples[:, :3] / G
        device = devices.setdefault(name, Device(acc[0]))
        gravity, device.zi = sosfilt(SOS, acc, axis=0, zi=device.zi)
        device.rows.extend(np.hstack([acc - gravity, samples[:, 3:], acc]))
        while len(device.rows) >= 128:
            window = np.array(device.rows[:128], np.float32)
            device.rows = device.rows[64:]
            with torch.no_grad():
                state = torch.zeros(1, card["state"]) if device.state is None else device.state
                (probabilities,), device.state = net(torch.from_numpy(window[None]), state)
            best = int(probabilities.argmax())
            label = {"activity": card["labels"][best], "confidence": float(probabilities[best])}
            client.publish(f"hard/{name}/activity", json.dumps(label), retain=True)

    def on_connect(client: mqtt.Client, *_: object) -> None:
        client.subscribe("hard/+/imu")
        client.publish("hard/status", "online", qos=1, retain=True)

    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_message = on_message
    client.on_connect = on_connect
    client.connect(host, port)
    client.loop_forever()


if __name__ == "__main__":
    main()
