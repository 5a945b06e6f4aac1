"""The evidence about two similar texts: do they say the same, or do they differ where an embedding does not look?

Both texts are read into tokens of one form (`reading`) and laid side by side (`align`, `clauses`). Every difference
that nothing explains as harmless fails a gate (`evidence`): a miss costs space, a false merge loses a fact.
"""

from memcli.dedup.gates.evidence import GATE_VERSION, GATES, judge, merge_key, same_signature, signature
from memcli.dedup.gates.reading import Signature

__all__ = ["GATES", "GATE_VERSION", "Signature", "judge", "merge_key", "same_signature", "signature"]
