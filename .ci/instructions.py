"""Reads callgrind_annotate's inclusive counts, and compares them with the recorded ones (see .ci/instructions)."""
import re
import sys

ROUNDS = 1000
recorded_path, compiler, accept = sys.argv[1:]
counted = {}
for line in sys.stdin:
    found = re.match(r"\s*([\d,]+)\s.*\binstructions::(\w+)", line)
    if found and found[2] not in ("main", "work", "build"):
        counted[found[2]] = round(int(found[1].replace(",", "")) / ROUNDS, 1)

if accept == "--accept":
    with open(recorded_path, "w") as file:
        file.write(f"# instructions a call, the guarded work and the loop included; {compiler}\n")
        for path, count in counted.items():
            file.write(f"{path} {count}\n")

recorded = {}
with open(recorded_path) as file:
    head = file.readline().strip()
    for line in file:
        path, count = line.split()
        recorded[path] = float(count)

worse = []
for path in sorted(recorded.keys() | counted.keys(), key=lambda path: counted.get(path, 0)):
    now, then = counted.get(path), recorded.get(path)
    print(f"{path:24} {now if now is not None else '-':>8} {then if then is not None else '-':>8}")
    if now is None or then is None or now > then * 1.1:
        worse.append(path)
if worse:
    sys.exit(
        f"more than 10 % above {recorded_path}, or not the same paths: {', '.join(worse)}\n"
        f"recorded with: {head}\ncounted with: {compiler}\n"
        "If it is worth it, or the compiler has changed: .ci/instructions --accept, and commit the file"
    )
