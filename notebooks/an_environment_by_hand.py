# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # An environment by hand
#
# `manufactoria-has` asks for a program that sorts tapes of coloured symbols. We play it ourselves: we write a wrong
# program, read what the environment says about it, and mend it. No model is involved, and everything runs in seconds.

# %%
import gymnasium
import matplotlib.pyplot as plt
import numpy as np

import resd_bench  # registers the environments

env = gymnasium.make("resd/ManufactoriaHas-v0").unwrapped
task = "manufactoria-has/test/0040-substring-RGR"
observation, info = env.reset(options={"task": task})
print(info)
print(
    f"{len(observation)} characters, of which the last:\n\n{observation[observation.index('# Your') :]}"
)

# %% [markdown]
# Before that comes the manual of a small language. The embedded model has learned it, and reads four words instead:

# %%
print(resd_bench.plugins.make_env("manufactoria-has", dialect="compact").find(task).prompt)

# %% [markdown]
# ## A first attempt
#
# A robot walks through our program and reads the tape from the front. A `PULLER_RB` takes a red or a blue symbol off the
# tape and branches on it; at any other symbol it takes `[EMPTY]`, as on an empty tape. We look for red, green, red. When a symbol
# does not fit, this program forgets everything and begins anew.

# %%
WRONG = """```manufactoria
START start:
    NEXT a
PULLER_RB a:
    [R] b
    [B] a
    [EMPTY] a2
PULLER_YG a2:
    [Y] a
    [G] a
    [EMPTY] NONE
PULLER_YG b:
    [Y] a
    [G] c
    [EMPTY] b2
PULLER_RB b2:
    [R] a
    [B] a
    [EMPTY] NONE
PULLER_RB c:
    [R] end
    [B] a
    [EMPTY] c2
PULLER_YG c2:
    [Y] a
    [G] a
    [EMPTY] NONE
END end
```"""
observation, reward, terminated, truncated, info = env.step(WRONG)
print(f"reward {reward}, success {info['success']}, score {info['score']:.2f}\n")
print(observation)

# %% [markdown]
# The reward is 0, and with rewards alone that would be all we ever hear. But the feedback names a tape on which the program is
# wrong, with the path it took: after `R`, a second `R` should have kept us waiting for green, and `b2` sent us back to the start.
#
# ## How much to say
#
# The same verdict can be told on six levels. Runs use level 3 unless `--feedback-level` says otherwise. Level 5 adds a right
# answer where the verifier knows one; here it only knows what a program has to do.

# %%
feedback = env.verify(env.find(task), WRONG)
for level in range(6):
    print(f"level {level}: {feedback.render(level) or '(nothing)'}\n")

# %% [markdown]
# ## Mended
#
# One word: from `b2`, red leads to `b`.

# %%
RIGHT = WRONG.replace("PULLER_RB b2:\n    [R] a", "PULLER_RB b2:\n    [R] b")
env.reset(options={"task": task})
observation, reward, *_, info = env.step(RIGHT)
print(f"reward {reward}, success {info['success']}, score {info['score']:.2f}")

# %% [markdown]
# ## Rare success, rich feedback
#
# Why not learn from the reward alone? We hand in, for every test problem, the right program of every other problem: answers
# that are well-formed and mean something. Almost none succeeds, and yet their scores (the share of test tapes they get right) spread widely. What
# tells a bad program from a nearly right one is in the feedback, not in the reward.

# %%
tasks = env.tasks("test")
programs = [env.oracle(task) for task in tasks]
rng = np.random.default_rng(0)
pairs = [
    (i, j) for i in range(len(tasks)) for j in rng.choice(len(tasks), 12, replace=False) if i != j
]
verdicts = [env.verify(tasks[i], programs[j]) for i, j in pairs]
scores = np.array([verdict.score for verdict in verdicts])
successes = sum(verdict.success for verdict in verdicts)

figure, axes = plt.subplots(figsize=(6, 2.8), layout="constrained")
axes.hist(scores, bins=np.linspace(0, 1, 26), color="#0072B2")
axes.set(xlabel="score: share of test tapes", ylabel="answers")
axes.set_title(f"{len(pairs)} programs for another problem: {successes} succeed", fontsize=10)
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# ## Several turns
#
# Other environments answer more than once. In `guess-number` every wrong guess is answered with a hint; bisection wins.

# %%
game = gymnasium.make("resd/GuessNumber-v0").unwrapped
print(game.reset(options={"task": "guess-number/test/003"})[0], "\n")
low, high, over = 1, 200, False
while not over:
    guess = (low + high) // 2
    observation, reward, terminated, truncated, info = game.step(str(guess))
    print(f"{guess:4}  {observation}")
    low, high = (guess + 1, high) if "too low" in observation else (low, guess - 1)
    over = terminated or truncated
print(f"reward {reward}")

# %% [markdown]
# `resd-bench envs play manufactoria-has` lets you go on in a terminal. Next: [one RESD step](one_resd_step.ipynb), where a model is in our place.
