"""One-line mistakes in the replication of bindings that the simulator has to notice (the README of
dataplane/replication says what they break). `scripts/sim --mutations` compiles each into a copy of
the sources and runs seeds until one fails; `scripts/check_mutations.py` sees to it that every text
is still found exactly once.

MUTATIONS: (number, what it breaks, [(file, old text, new text)], files to compile besides those .cc
files that are changed). A mutated header reaches only the files that are compiled with it.
"""

HOME = "dataplane/replication/home.cc"
COPY = "dataplane/replication/copy.cc"
MERGE = "dataplane/replication/merge.cc"
REPLICA = "dataplane/replication/replica.h"
FORWARDER = "dataplane/l4/forwarder.h"
WAITING = "dataplane/l4/forwarder_waiting.cc"
ENGINE = "tests/sim/engine.cc"  # where drain() and serve() become code

MUTATIONS = [
    (1, "expiry in one step: GONE to all at the deadline",
     [(HOME, "  if (!end_if_due(record)) recall(record, home);",
       "  if (!end_if_due(record)) forget(record, counters_.expired);")], []),
    (2, "`regranted` ignored: a YES clears the copy although an UPDATE followed the RECALL",
     [(HOME, "} else if ((home.regranted & bit) == 0) {", "} else {")], []),
    (3, "the answer's serial is not checked",
     [(HOME, "  Entry* record = table_.at(m.place, m.serial);\n  if (record == nullptr || !record->is_home()) return;",
       "  Entry* record = m.place < table_.places() ? table_.entry_at(m.place) : nullptr;\n"
       "  if (record == nullptr || !record->is_home()) return;")], []),
    (4, "`have` is not looked at, nor whether the server may be used: two claims move twice",
     [(HOME, "} else if (m.serial == record.serial && m.change == record.change) {",
       "} else if (m.serial != 0) {"),
      (HOME, "    } else if (j.action == Action::kPick) {", "    } else {")], []),
    (5, "a close does not check its serial",
     [(FORWARDER, "return entry != nullptr && entry->life == flow.entry_life ? entry : nullptr;",
       "return entry;"),
      (FORWARDER, "persist::Entry* entry = replica_.table().at(flow.entry, flow.entry_serial);",
       "persist::Entry* entry = flow.entry < replica_.table().places()\n"
       "                                ? replica_.table().entry_at(flow.entry)\n"
       "                                : nullptr;")],
     ["dataplane/l4/forwarder.cc", WAITING]),
    (6, "a move is committed although a holder's ring is full",
     [(HOME, "  if (!room(home.copies | asker)) {", "  if (!room(asker)) {"),
      (HOME, "  each(cores, [&](uint32_t c) { tell(c, record, home); });",
       "  each(cores, [&](uint32_t c) {\n"
       "    if (down(c).free_count() > 0) tell(c, record, home);\n  });")], []),
    (7, "the same for a delete",
     [(HOME, "  if (!room(home.copies)) return false;\n  if (rings_.news",
       "  if (rings_.news"),
      (HOME, "    LIMPET_ASSERT(sent);  // R1\n    ++counters_.gones;", "    counters_.gones += sent;")],
     []),
    (8, "YES does not carry the last close",
     [(COPY, "answer.last = held ? now_ : copy->last;",
       "answer.last = held ? now_ : persist::kNoActivity;")], []),
    (9, "a core answers YES and keeps its copy",
     [(COPY, "  if (answer.yes && copy != nullptr) {", "  if (false) {")], []),
    (10, "a core drops its copy and answers NO",
     [(COPY, "  if (answer.yes && copy != nullptr) {", "  if (copy != nullptr) {")], []),
    (11, "home decides with the snapshot it had before the message",
     [(REPLICA, "    const uint32_t claimed = claims.consume(kClaimsPerTurn, [&](const Claim& m) {\n"
       "      if (m.version > snapshot_->version) take();\n",
       "    const uint32_t claimed = claims.consume(kClaimsPerTurn, [&](const Claim& m) {\n")],
     [ENGINE]),
    (12, "every answer restarts the full timeout",
     [(HOME, "  if (m.last > record->last) {", "  record->last = now_;\n  if (m.last > record->last) {")],
     []),
    (13, "home trusts the proposed server",
     [(HOME, "proposed != nullptr && balance::takes_new_clients(*proposed) &&",
       "proposed != nullptr &&")], []),
    (14, "home removes after the first YES",
     [(HOME, "    home.copies &= ~bit;\n", "    home.copies = 0;\n")], []),
    (15, "eviction without recall: GONE to all",
     [(HOME, "    if (home.copies == 0) {\n      if (end_if_due(victim))",
       "    if (home.copies != 0)\n"
       "      return forget(victim, counters_.evicted_idle) ? Outcome::kDone : Outcome::kWait;\n"
       "    if (home.copies == 0) {\n      if (end_if_due(victim))")], []),
    (16, "UPDATE does not release the pen",
     [(WAITING, "  if (slot != nullptr) heard_.push_back",
       "  if (slot != nullptr && m.kind != replication::Down::Kind::kUpdate) heard_.push_back")], []),
    (17, "UPDATE restarts the count",
     [(COPY, "  } else if (copy->serial != m.serial) {", "  } else {")], []),
    (18, "a recalled core ignores its open connections",
     [(COPY, "const bool held = (copy->open > 0 && !embryonic) ||", "const bool held =")], []),
    (19, "the deadline is not checked again when the last copy is given up",
     [(HOME, "  if (scope == nullptr || !expired(record, *scope)) return false;\n  if (record.confirmed",
       "  if (scope == nullptr || record.held()) return false;\n  if (record.confirmed")], []),
    (20, "look-up before the down rings are empty: one message a ring and turn",
     [(REPLICA, "const uint32_t taken = ring.consume(ring.size(), [&](const Down& m) {",
       "const uint32_t taken = ring.consume(1, [&](const Down& m) {")], [ENGINE]),
    (21, "CLAIM is taken although its answer does not fit",
     [(HOME, "  if (!room(Bits{1} << from)) return false;\n", "")], []),
    (22, "a NO leaves the core marked as asked",
     [(HOME, "  home.asked &= ~bit;\n", "  if (m.yes) home.asked &= ~bit;\n")], []),
    (23, "no credits: an answer may not fit, which is asserted",
     [(HOME, "if (credits_[core] >= rings_.capacity.answers || down(core).free_count() == 0)",
       "if (down(core).free_count() == 0)")], []),
    (24, "home replaces a lineage without telling the holders",
     [(MERGE, "    ++counters_.merged;\n    tell_all(home.copies, record, home);",
       "    ++counters_.merged;\n    if (!lineage) tell_all(home.copies, record, home);")], []),
    (25, "`copies` is set when the holder is first heard of, not when UPDATE enters the ring",
     [(HOME, "  home.copies |= bit;\n", ""),
      (HOME, "    record->last = std::max(record->last, m.sent);\n",
       "    record->last = std::max(record->last, m.sent);\n"
       "    table_.home(*record).copies |= Bits{1} << from;\n")], []),
    (26, "home's own connections do not stop expiry",
     [(REPLICA, "    return !record.held() && now_ >=", "    return now_ >=")], [HOME]),
    (27, "a new serial inherits `asked`",
     [(MERGE, "  home.asked = home.regranted = home.round = 0;\n",
       "  home.regranted = home.round = 0;\n")], []),
    (28, "a peer's move is not told to the holders",
     [(MERGE, "    ++counters_.merged;\n    tell_all(home.copies, record, home);",
       "    ++counters_.merged;\n    if (lineage) tell_all(home.copies, record, home);")], []),
    (29, "a merged lineage's serial is made of its stamp, which may come back",
     [(MERGE, "  store(x, *record);\n  ++counters_.merged;",
       "  store(x, *record);\n"
       "  record->serial = static_cast<uint32_t>(x.merged.record.stamp.value >> 13) | 1u << 31;\n"
       "  ++counters_.merged;")], []),
    (30, "a copy that was given up and comes back takes the connections of before for its own",
     [(FORWARDER, "return entry != nullptr && entry->life == flow.entry_life ? entry : nullptr;",
       "return entry;")],
     ["dataplane/l4/forwarder.cc", WAITING]),
    (31, "UPDATEs of a scope that has gone are ignored",
     [(COPY, "void Replica::adopt(const Down& m) {\n",
       "void Replica::adopt(const Down& m) {\n"
       "  if (scope_of(m.scope, m.version) == nullptr) return;\n")], []),
    (32, "the asker is told of a new binding twice",
     [(HOME, "push_to_others(*record, home, need.asker == kNobody ? 0 : Bits{1} << need.asker);",
       "push_to_others(*record, home, 0);")], []),
    (33, "a packet that is parked again is young again",
     [(WAITING, "  // What is parked again meanwhile is for the next turn.\n",
       "  for (const uint32_t at : retry_) pen_.slot(at).since = now;\n"
       "  for (const Heard& h : heard_) pen_.slot(h.slot).since = now;\n")], []),
]
