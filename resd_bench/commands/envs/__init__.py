"""`envs list | info | check | play | score | calibrate`."""

from __future__ import annotations

from resd_bench.commands.envs.calibrate import calibrate
from resd_bench.commands.envs.check import check
from resd_bench.commands.envs.info import info
from resd_bench.commands.envs.list import list_envs
from resd_bench.commands.envs.play import play_command
from resd_bench.commands.envs.score import score
from resd_bench.commands.groups import LightCommand, group

app = group("List, describe, check and play the installed environments.")
app.command("list", cls=LightCommand)(list_envs)
app.command("info")(info)
app.command("check")(check)
app.command("play")(play_command)
app.command("score")(score)
app.command("calibrate")(calibrate)
