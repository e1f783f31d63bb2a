"""Border routers' configurations: derived from the model, shown as a difference, pushed whole, taken back by the device.

`intent` says what a router should do, `text` writes that in its platform's words (`templates/<platform>`), a driver in `drivers`
loads it. A second vendor is a template and a driver, nothing else.
"""

from dpp.adapters.devices.change import Applied, Change
from dpp.adapters.devices.configurations import DeviceConfigurations
from dpp.adapters.devices.intent import Intent, intent
from dpp.adapters.devices.text import router_text

__all__ = ["Applied", "Change", "DeviceConfigurations", "Intent", "intent", "router_text"]
