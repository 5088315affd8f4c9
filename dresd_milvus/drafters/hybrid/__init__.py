"""The hybrid drafter: one draft tree from several sources, by chances that are learned while the text goes on.

A step has four stages, of a module or two each:

1. **Evidence** (evidence, matches, dense_sources). Each source looks at the text and gives continuations of it: what
   followed the same tokens earlier in the text or in a corpus, and the rows of the store whose keys are nearest to the
   target's hidden state. With each continuation it says how good it is: how many tokens match, how similar the keys
   are. The memory of what the target itself held likely after a token (recycling) is looked up for each node later.
2. **Chances** (mixer). Weights of different sources cannot be compared, so the mixer counts how often evidence of a
   kind, a grade and a share was right, and adds the log-odds of all kinds that name a token, with learned weights. The
   result is the chance that this token comes next.
3. **Tree** (tree_builder, budget). The tree grows best first: the token with the highest product of chances from the
   root becomes the next node. The budget decides how many of these nodes are worth their time in the target's forward
   pass, and pauses drafting while none is.
4. **What came** (drafter). After the target has checked the tree, each token that was evaluated along the text's path
   is a case for the mixer: it came, or it did not. Recycling keeps the target's logits, and the budget compares the
   accepted tokens with their cost. Where accepted tokens are from is noted (attribution).

Stages 1 to 3 take several texts at a time, as a serving engine has them (`BatchHybrid`): each source is asked once for
all texts, so that a step has one projection, one copy of the keys to the host and one search. Mixer and recycling are
shared by all texts; what sources remember of one text is in its `Session`. `Hybrid` drafts for one text, as a batch of
one. Where the target verifies one path instead of a tree, it gets the tree's likeliest chain.

Best-first growth by estimated acceptance is also in EAGLE-2 (2406.16858) with a draft model's confidence as the chance;
here chances are calibrated counts. Context mixing is PAQ's (Mahoney 2005), recycling is 2408.08696.
"""

from dresd_milvus.drafters.hybrid.drafter import PRIOR, BatchHybrid, Hybrid, Proposal
from dresd_milvus.drafters.hybrid.evidence import Session, Source

__all__ = ["PRIOR", "BatchHybrid", "Hybrid", "Proposal", "Session", "Source"]
