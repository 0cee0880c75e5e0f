"""The web page: templates, style, scripts and highlighted code. Pure: values in, text out; owns jinja2.

Whatever comes from a code base or from a user is text here. It is escaped wherever it is shown, and its covert
characters are spelt out. Knows nothing of requests, keys and workspaces beyond the values it is given.
"""

from hub.web.assets import ASSETS, Asset
from hub.web.highlighting import Code, highlight
from hub.web.rendering import Shell, render, url

__all__ = ["ASSETS", "Asset", "Code", "Shell", "highlight", "render", "url"]
