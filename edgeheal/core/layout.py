# SPDX-License-Identifier: Apache-2.0
"""Where everything lies on a device; every path moves with `--root DIR`.

Duty: turn a root folder into the paths of the documented layout. It touches no disk.
Invariant: only string arithmetic, so that the guard and the pure rooms may import it.
"""


class Layout:
    """The documented paths below one root; `Layout("/")` is a real device."""

    def __init__(self, root: str = "/") -> None:
        """`root` is an absolute folder; a whole device lives below it."""
        base = root.rstrip("/")
        self.root = base or "/"
        self.vendor_config = f"{base}/usr/lib/edgeheal"
        self.vendor_trust = f"{base}/usr/share/edgeheal/trust"
        self.etc = f"{base}/etc/edgeheal"
        self.config_file = f"{self.etc}/edgeheal.toml"
        self.config_dropins = f"{self.etc}/conf.d"
        self.keys = f"{self.etc}/keys"
        self.identity = f"{self.etc}/identity.json"
        self.identity_config = f"{self.config_dropins}/20-identity.toml"
        self.checks = f"{self.etc}/checks"
        self.hooks = f"{self.etc}/hooks"
        self.var = f"{base}/var/lib/edgeheal"
        self.agent = f"{self.var}/agent"
        self.journal = f"{self.agent}/journal"
        self.spool = f"{self.agent}/spool"
        self.recordings = f"{self.agent}/recordings"
        self.learned = f"{self.agent}/learned"
        self.guard = f"{self.var}/guard"
        self.trust = f"{self.guard}/trust"
        self.guard_apps = f"{self.guard}/apps"
        self.staging = f"{self.var}/staging"
        self.store = f"{self.var}/store"
        self.spare = f"{self.store}/spare"
        self.data = f"{self.var}/data"
        self.run = f"{base}/run/edgeheal"
        self.agent_run = f"{self.run}/agent"
        self.control_socket = f"{self.agent_run}/control.sock"
        self.guard_socket = f"{self.run}/guard.sock"
        self.guard_agent_socket = f"{self.run}/guard-agent.sock"
        self.notify = f"{self.run}/notify"
        self.logs = f"{self.run}/logs"
        self.metrics = f"{self.agent_run}/metrics.sock"

    def app_state(self, app: str) -> str:
        """Folder of an app's two state records and its launch records."""
        return f"{self.guard_apps}/{app}"

    def tree(self, app: str, image_hex: str) -> str:
        """Folder of one installed image: `manifest`, `tree`, `files/`."""
        return f"{self.store}/{app}/{image_hex}"

    def app_data(self, app: str) -> str:
        """Folder of an app's data generations, `config/` and `secret/`."""
        return f"{self.data}/{app}"

    def log(self, app: str) -> str:
        """The app's output, on tmpfs, opened by the guard with O_APPEND."""
        return f"{self.logs}/{app}.log"

    def metric_socket(self, app: str) -> str:
        """Where an app's metric datagrams go (EDGEHEAL_METRICS): one socket per app, made by the agent in a folder that the guard gives it."""
        return f"{self.run}/metrics/{app}.sock"
