"""The plugin as Airflow finds it: cheap for every process, at work in the API server only."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from airflow_provider_popin.plugins.popin import PopinPlugin
from tests import airflow_runs

ROOT = Path(__file__).parents[2]

LOAD_ALL_PLUGINS = """
import json, sys, threading
from airflow import plugins_manager
plugins_manager.ensure_plugins_loaded()
loaded = getattr(plugins_manager, "plugins", None) or plugins_manager._get_plugins()[0]
print(json.dumps({
    "plugins": [plugin.name for plugin in loaded],
    "modules": [name for name in sys.modules if name.startswith("airflow_provider_popin.")],
    "threads": [thread.name for thread in threading.enumerate()],
}))
"""


def test_other_processes_load_the_plugin_and_nothing_else_of_ours() -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD_ALL_PLUGINS],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    told = json.loads(ran.stdout.splitlines()[-1])
    assert "popin" in told["plugins"]
    assert set(told["modules"]) <= {
        "airflow_provider_popin.get_provider_info",
        "airflow_provider_popin.plugins",
        "airflow_provider_popin.plugins.popin",
    }
    assert not [name for name in told["threads"] if "popin" in name]


def test_apps_are_made_once_and_the_narrower_prefix_comes_first() -> None:
    plugin: Any = PopinPlugin()
    apps = plugin.fastapi_apps
    if not airflow_runs.IS_AIRFLOW_3:
        assert apps == []
        return
    assert apps is plugin.fastapi_apps
    assert apps[0]["url_prefix"] == "/popin/webhooks"
    assert len({app["name"] for app in apps}) == len(apps)
