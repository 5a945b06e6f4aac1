"""Search: words and meaning over the same memories, fused into one ranking, with answers remembered."""

from memcli.search.report import MODES, Answer, Mode, Request
from memcli.search.searcher import Searcher

__all__ = ["MODES", "Answer", "Mode", "Request", "Searcher"]
