"""Border routers' configurations: derived from the model, shown as a difference, pushed whole, taken back by the device.

`intent` says what a router should do, `templates/<platform>` writes that in the platform's words, a driver in `drivers`
loads it. A second vendor is a template and a driver, nothing else.
"""

from dpp.adapters.devices.change import Applied, Change
from dpp.adapters.devices.configurations import DeviceConfigurations
from dpp.adapters.devices.intent import Intent, intent

__all__ = ["Applied", "Change", "DeviceConfigurations", "Intent", "intent"]
