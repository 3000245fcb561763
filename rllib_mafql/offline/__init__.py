"""Offline data: joint transitions in Parquet files, written by env runners and commands, read into the replay.

Streaming (`stream_fragments`) imports Ray when it is called; nothing else here does.
"""

from rllib_mafql.offline.columns import RecordingError
from rllib_mafql.offline.episode import FragmentBuilder, RecordedFragment
from rllib_mafql.offline.reader import Recording, open_recording
from rllib_mafql.offline.schema import RecordingSchema
from rllib_mafql.offline.stream import stream_fragments
from rllib_mafql.offline.writer import FragmentWriter

__all__ = [
    "FragmentBuilder",
    "FragmentWriter",
    "RecordedFragment",
    "Recording",
    "RecordingError",
    "RecordingSchema",
    "open_recording",
    "stream_fragments",
]
