"""No test needs a network. Without one the hub is asked again and again for up to half a minute, so it is not asked."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub, which reads it once
