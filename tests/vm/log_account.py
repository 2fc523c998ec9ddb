"""What programs in the guest said that they had been promised, and how the next boot is asked about it."""
import dataclasses

N_SAMPLES = 20


@dataclasses.dataclass
class Log:
    """What vm-log said of one place (log_guest.c has the format)."""
    first: int = 0       # nothing before comes back
    keeps: int = 0       # nothing from here on went away
    durable: int = 0
    records: list = dataclasses.field(default_factory=list)

    def question(self, place, chance):
        samples = chance.sample(self.records[-1000:-1], min(N_SAMPLES, len(self.records[-1000:-1]))) + self.records[-1:]
        return " ".join([place, str(self.first), str(self.keeps), str(self.durable), *samples])


class Logs:
    """places: of vm-log."""

    def __init__(self, places):
        self.of_directory = {place.split(":")[0]: place for place in places}
        self.logs = {}      # by directory; those that were there
        self.classes = {}   # the ways in which it was kept: "MEDIUM GRANULARITY DURABLE"

    def hear(self, output):
        for line in whole_lines(output):
            word, directory, *rest = line.split()
            if word == "open":
                self.logs.setdefault(directory, Log())
            elif word == "class":
                self.classes.setdefault(directory, set()).add(" ".join(rest))
            elif word == "trimming":
                self.logs[directory].keeps = int(rest[0])
            elif word == "trimmed":
                self.logs[directory].first = int(rest[0])
            elif word == "ack":
                log = self.logs[directory]
                log.durable = max(log.durable, int(rest[0]))
                log.records.append(":".join(rest[1:]))

    def questions(self, chance):
        return [log.question(self.of_directory[directory], chance) for directory, log in self.logs.items()]

    def __str__(self):
        return ", ".join(f"{directory} {log.first}-{log.durable}" for directory, log in self.logs.items()) or "nothing"


class Blocks:
    """How many blocks of each file were acknowledged (blocks.c has the format)."""

    def __init__(self, files):
        self.files = dict.fromkeys(files, 0)

    def hear(self, output):
        for line in whole_lines(output):
            file, number = line.split()
            if int(number) != self.files[file]:
                raise ValueError(f"{file}: block {number} after {self.files[file] - 1}")
            self.files[file] += 1

    def words(self):
        """What the program is told of them."""
        return [str(word) for pair in self.files.items() for word in pair]

    def __str__(self):
        return ", ".join(f"{file} {n}" for file, n in self.files.items())


def whole_lines(output):
    """The last may have been cut."""
    return [line for line in output.decode().split("\n")[:-1] if " " in line]
