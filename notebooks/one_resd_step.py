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
# # One RESD step, opened up
#
# The embedded model `nano` attempts four tasks. We look at its failures, at what it says about them, at what its
# teacher sees, and at which tokens the teacher would have written otherwise. Nano is a model organism: this shows the
# mechanism, and is not evidence about large models. Runs in seconds on one core.

# %%
import matplotlib.pyplot as plt
import torch

from resd_baselines.base import scored_attempts
from resd_baselines.context_update import PromptWriter
from resd_baselines.playbook import Playbook
from resd_baselines.teacher_prompt import TeacherOptions, teacher_prompts
from resd_bench.config import resolve
from resd_bench.jobs.setup import make_envs
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.policy.trainer import response_logits
from resd_bench.rollout.rollout import roll_out
from resd_bench.types import Sampling, user

config = resolve({"method": "resd", "env": "manufactoria-has"})
env, pool = make_envs(config)
policy = LMPolicy.load("nano")
sampling = Sampling(temperature=1.0, top_p=0.95, max_new_tokens=320, seed=1)

# %% [markdown]
# ## 1. Attempts, and what the environment says
# Each attempt is one program. Success is rare; the feedback names failing tapes and what the program did on them.

# %%
groups = roll_out(
    policy.sample,
    pool,
    env.tasks("train")[:4],
    n=1,
    sampling=sampling,
    purpose="rollout",
    ledger=policy.ledger,
    seed=0,
)
attempts = [attempt for attempt in scored_attempts(groups) if not attempt.success]
attempt = attempts[0]
print(attempt.prompt, attempt.response, attempt.feedback, sep="\n\n")

# %% [markdown]
# ## 2. Its reflection
# The same model reads attempt and feedback, and names a cause and a lesson.

# %%
writer, empty = PromptWriter(policy.dialect), Playbook()
asked = writer.reflect(attempt, empty)
[[said]] = policy.sample([user(asked)], n=1, sampling=sampling, purpose="reflection")
reflection = writer.read_reflection(said.text, empty)
print(said.text)

# %% [markdown]
# ## 3. What the teacher sees
# The same question, with the attempt, its feedback and the reflection before it.

# %%
context, *_ = teacher_prompts(
    attempt,
    playbook="",
    reflection=reflection.text,
    solution=None,
    options=TeacherOptions(),
    dialect=policy.dialect,
)
print(context)

# %% [markdown]
# ## 4. Which tokens would move
# The student's own answer is scored twice: once without and once with the context. Where the two disagree most about a
# token, distillation pulls hardest: away from it if the teacher finds it less likely than the student did.

# %%
turn = attempt.turns[0]
ids = list(turn.completion.token_ids)
codec = policy.codec
with torch.no_grad():
    scores = [
        response_logits(policy.model, [codec.prompt_ids(chat)], [ids])[0].log_softmax(-1)
        for chat in (turn.messages, user(context))
    ]
chosen = torch.tensor(ids)[:, None]
student, teacher = (s.gather(1, chosen)[:, 0] for s in scores)
for at in (teacher - student).abs().argsort(descending=True)[:6].tolist():
    best = codec.decode([int(scores[1][at].argmax())])
    token = codec.decode([ids[at]])
    print(
        f"token {at:3d} {token!r:12} {student[at]:6.2f} -> {teacher[at]:6.2f}   teacher: {best!r}"
    )

# %% [markdown]
# The whole answer at a glance: each bar is a token. Below zero the teacher takes probability away, above it adds some. Most tokens stay as
# they are; what the context changes its mind about are a few.

# %%
pull = teacher - student
figure, axes = plt.subplots(figsize=(9, 2.6), layout="constrained")
axes.bar(range(len(ids)), pull, color=["#D55E00" if value < 0 else "#0072B2" for value in pull])
for at in pull.abs().argsort(descending=True)[:5].tolist():
    axes.annotate(codec.decode([ids[at]]), (at + 0.6, float(pull[at])), fontsize=8, va="center")
axes.set(xlabel="token of the answer", ylabel="log p, teacher − student")
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# Distilling these probabilities into the student, for a batch of attempts, is one update of RESD. What comes of forty of them, on 32 attempts each, is in
# [reading results](reading_results.ipynb).
