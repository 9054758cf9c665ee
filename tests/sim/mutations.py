"""One-line mistakes in the replication of bindings that the simulator has to notice (the READMEs of
dataplane/replication and control/mirroring say what they break). `scripts/sim --mutations` compiles
each into a copy of the sources and runs seeds until one fails; `scripts/check_mutations.py` sees to
it that every text is still found exactly once.

MUTATIONS, between the cores of an engine, and CLUSTER_MUTATIONS, between engines: (number, what it breaks, [(file, old text, new text)], files to compile besides those .cc
files that are changed). A mutated header reaches only the files that are compiled with it.
"""

BOOK = "dataplane/replication/book.h"
TELLER = "dataplane/replication/teller.cc"
HOLDER = "dataplane/replication/holder.cc"
HOLDER_HEADER = "dataplane/replication/holder.h"
RECORDS = "dataplane/replication/records.cc"
EVICTOR = "dataplane/replication/evictor.cc"
KEEPER = "dataplane/replication/keeper.cc"
KEEPER_HEADER = "dataplane/replication/keeper.h"
CLAIMS = "dataplane/replication/keeper_claims.cc"
ANNOUNCER = "dataplane/replication/announcer.cc"
ANNOUNCER_HEADER = "dataplane/replication/announcer.h"
MERGER = "dataplane/replication/merger.cc"
SELECTOR = "dataplane/affinity/selector.cc"
FORWARDER = "dataplane/l4/forwarder.h"
WAITING = "dataplane/l4/forwarder_waiting.cc"
ENGINE = "tests/sim/engine.cc"  # where drain() and serve() become code
CHANGE = "common/binding/change.cc"
TOMBSTONES = "dataplane/persist/tombstones.h"
LIST = "control/mirroring/update_list.cc"
LIST_HEADER = "control/mirroring/update_list.h"
EXCHANGE = "control/mirroring/exchange.cc"
EXCHANGE_HEADER = "control/mirroring/exchange.h"
# Whoever asks for a deadline.
DEADLINES = [RECORDS, EVICTOR, KEEPER, ANNOUNCER, MERGER, "dataplane/worker/core.cc"]
# Whoever says that a binding is in use.
USERS = [KEEPER, CLAIMS, ANNOUNCER, SELECTOR, "dataplane/l4/forwarder.cc", "dataplane/l4/forwarder_open.cc",
         "dataplane/l4/forwarder_adopt.cc", WAITING, ENGINE]

MUTATIONS = [
    (1, "expiry in one step: GONE to all at the deadline",
     [(KEEPER, "  if (!records_.end_if_due(record)) teller_.recall(record, home);",
       "  if (!records_.end_if_due(record)) records_.forget(record, book_.counters.expired, {});")], []),
    (2, "`regranted` ignored: a YES clears the copy although an UPDATE followed the RECALL",
     [(CLAIMS, "} else if ((home.regranted & bit) == 0) {", "} else {")], []),
    (3, "the answer's serial is not checked",
     [(CLAIMS, "  Entry* record = book_.table.at(m.place, m.serial);\n  if (record == nullptr || !record->is_home()) return;",
       "  Entry* record = m.place < book_.table.places() ? book_.table.entry_at(m.place) : nullptr;\n"
       "  if (record == nullptr || !record->is_home()) return;")], []),
    (4, "`have` is not looked at, nor whether the server may be used: two claims move twice",
     [(CLAIMS, "} else if (m.serial == record.serial && m.change == record.change) {",
       "} else if (m.serial != 0) {"),
      (CLAIMS, "    } else if (j.action == Action::kPick) {", "    } else {")], []),
    (5, "a close does not check its serial",
     [(FORWARDER, "return entry != nullptr && entry->life == flow.entry_life ? entry : nullptr;",
       "return entry;"),
      (FORWARDER, "persist::Entry* entry = replica_.table().at(flow.entry, flow.entry_serial);",
       "persist::Entry* entry = flow.entry < replica_.table().places()\n"
       "                                ? replica_.table().entry_at(flow.entry)\n"
       "                                : nullptr;")],
     ["dataplane/l4/forwarder.cc", WAITING]),
    (6, "a move is committed although a holder's ring is full",
     [(CLAIMS, "  if (!teller_.room(home.copies | asker)) {", "  if (!teller_.room(asker)) {"),
      (TELLER, "  for_each_core(cores, [&](uint32_t c) { tell(c, record, home); });",
       "  for_each_core(cores, [&](uint32_t c) {\n"
       "    if (down(c).free_count() > 0) tell(c, record, home);\n  });")], []),
    (7, "the same for a delete",
     [(RECORDS, "  if (!teller_.room(home.copies)) return false;\n", ""),
      (TELLER, "    LIMPET_ASSERT(sent);  // R1\n    ++book_.counters.gones;", "    book_.counters.gones += sent;")],
     []),
    (8, "YES does not carry the last close",
     [(HOLDER, "answer.last = held ? book_.now : copy->last;",
       "answer.last = held ? book_.now : persist::kNoActivity;")], []),
    (9, "a core answers YES and keeps its copy",
     [(HOLDER, "  if (answer.yes && copy != nullptr) drop(*copy);\n", "")], []),
    (10, "a core drops its copy and answers NO",
     [(HOLDER, "  if (answer.yes && copy != nullptr) drop(*copy);", "  if (copy != nullptr) drop(*copy);")], []),
    (11, "home decides with the snapshot it had before the message",
     [(KEEPER_HEADER, "    const uint32_t claimed = claims.consume(kClaimsPerTurn, [&](const Claim& m) {\n"
       "      if (m.version > book_.snapshot->version) take();\n",
       "    const uint32_t claimed = claims.consume(kClaimsPerTurn, [&](const Claim& m) {\n")],
     [ENGINE]),
    (12, "every answer restarts the full timeout",
     [(CLAIMS, "  if (m.last > record->last) {", "  record->last = book_.now;\n  if (m.last > record->last) {")],
     []),
    (13, "home trusts the proposed server",
     [(CLAIMS, "proposed != nullptr && balance::takes_new_clients(*proposed) &&",
       "proposed != nullptr &&")], []),
    (14, "home removes after the first YES",
     [(CLAIMS, "    home.copies &= ~bit;\n", "    home.copies = 0;\n")], []),
    (15, "eviction without recall: GONE to all",
     [(EVICTOR, "    if (home.copies == 0) {\n      if (records_.end_if_due(victim))",
       "    if (home.copies != 0)\n"
       "      return records_.forget(victim, book_.counters.evicted_idle, {}) ? Outcome::kDone : Outcome::kWait;\n"
       "    if (home.copies == 0) {\n      if (records_.end_if_due(victim))")], []),
    (16, "UPDATE does not release the pen",
     [(WAITING, "  if (slot == nullptr) return;\n  if (m.answer) {",
       "  if (slot == nullptr || m.kind == replication::Down::Kind::kUpdate) return;\n"
       "  if (m.answer) {")], []),
    (17, "UPDATE restarts the count",
     [(HOLDER, "  } else if (copy->serial != m.serial) {", "  } else {")], []),
    (18, "a recalled core ignores its open connections",
     [(HOLDER, "const bool held = (copy->open > 0 && counts) ||", "const bool held =")], []),
    (19, "the deadline is not checked again when the last copy is given up",
     [(RECORDS, "  if (scope == nullptr || !book_.expired(record, *scope)) return false;\n  if (record.confirmed",
       "  if (scope == nullptr || record.kept()) return false;\n  if (record.confirmed")], []),
    (20, "look-up before the down rings are empty: one message a ring and turn",
     [(HOLDER_HEADER, "const uint32_t taken = ring.consume(ring.size(), [&](const Down& m) {",
       "const uint32_t taken = ring.consume(1, [&](const Down& m) {")], [ENGINE]),
    (21, "CLAIM is taken although its answer does not fit",
     [(CLAIMS, "  if (!teller_.room(Bits{1} << from)) return false;\n", "")], []),
    (22, "a NO leaves the core marked as asked",
     [(CLAIMS, "  home.asked &= ~bit;\n", "  if (m.yes) home.asked &= ~bit;\n")], []),
    (23, "no credits: an answer may not fit, which is asserted",
     [(TELLER, "if (credits_[core] >= book_.rings.capacity.answers || down(core).free_count() == 0)",
       "if (down(core).free_count() == 0)")], []),
    (24, "home replaces a lineage without telling the holders",
     [(MERGER, "    ++book_.counters.merged;\n    teller_.tell_all(home.copies, record, home);",
       "    ++book_.counters.merged;\n    if (!lineage) teller_.tell_all(home.copies, record, home);")], []),
    (25, "`copies` is set when the holder is first heard of, not when UPDATE enters the ring",
     [(TELLER, "  home.copies |= bit;\n", ""),
      (CLAIMS, "    on_touch(m, scope);\n",
       "    on_touch(m, scope);\n"
       "    Entry* record = scope == nullptr ? nullptr : book_.table.find(m.scope, m.key);\n"
       "    if (record != nullptr && !record->husk && record->serial == m.serial)\n"
       "      book_.home(*record).copies |= Bits{1} << from;\n")], []),
    (26, "home's own connections do not stop expiry",
     [(BOOK, "    return !record.kept() && now >=", "    return now >=")], DEADLINES),
    (27, "a new serial inherits `asked`",
     [(RECORDS, "  home.asked = home.regranted = home.round = 0;\n",
       "  home.regranted = home.round = 0;\n")], []),
    (28, "a peer's move is not told to the holders",
     [(MERGER, "    ++book_.counters.merged;\n    teller_.tell_all(home.copies, record, home);",
       "    ++book_.counters.merged;\n    if (lineage) teller_.tell_all(home.copies, record, home);")], []),
    (29, "a merged lineage's serial is made of its stamp, which may come back",
     [(MERGER, "  store(x, *record);\n  ++book_.counters.merged;",
       "  store(x, *record);\n"
       "  record->serial = static_cast<uint32_t>(x.merged.record.stamp.value >> 13) | 1u << 31;\n"
       "  ++book_.counters.merged;")], []),
    (30, "a copy that was given up and comes back takes the connections of before for its own",
     [(FORWARDER, "return entry != nullptr && entry->life == flow.entry_life ? entry : nullptr;",
       "return entry;")],
     ["dataplane/l4/forwarder.cc", WAITING]),
    (31, "UPDATEs of a scope that has gone are ignored",
     [(HOLDER, "void Holder::adopt(const Down& m) {\n",
       "void Holder::adopt(const Down& m) {\n"
       "  if (book_.scope_of(m.scope, m.version) == nullptr) return;\n")], []),
    (32, "the asker is told of a new binding twice",
     [(KEEPER, "push_to_others(*record, home, need.asker == kNobody ? 0 : Bits{1} << need.asker);",
       "push_to_others(*record, home, 0);")], []),
    (33, "a packet that is parked again is young again",
     [(WAITING, "    if (!slot.used) continue;\n",
       "    if (!slot.used) continue;\n    slot.since = now;\n")], []),
    (34, "home is not told that a datagram used a copy of a half-open binding",
     [(HOLDER, "    answer.datagram = copy->datagram;\n", "")], []),
    (35, "a recalled core takes a datagram's flow for a half-open connection",
     [(HOLDER, "const bool counts = !embryonic || (!m.evicting && (m.datagram || copy->datagram));",
       "const bool counts = !embryonic;")], []),
    (36, "a handshake that is complete late moves the binding that was made meanwhile",
     [(CLAIMS, "if (m.exact && !m.if_none) {", "if (m.exact) {")], []),
]

CLUSTER_MUTATIONS = [
    (101, "lineages are ordered by epoch before stamp",
     [(CHANGE, "      a_wins = a.stamp < b.stamp;", "      a_wins = version(a) >= version(b);")], []),
    (102, "equal epochs are not ordered by server",
     [(CHANGE, "      a_wins = version(a) >= version(b);", "      a_wins = a.epoch >= b.epoch;")], []),
    (103, "the receiver with the better record stays silent",
     [(CHANGE, "    if (out.record != theirs) out.told = Told::kSender;\n", "")], []),
    (104, "activity is renewed by being received",
     [(MERGER, "  if (!x.mine.live() || merged.act != x.mine.act) a.act_at = x.m.act_at;",
       "  a.act_at = book_.now;")], []),
    (105, "releases are not announced",
     [(ANNOUNCER, "  if (!held) return announce_release(record, home);\n",
       "  if (!held) home.holding = false;\n  if (!held) return;\n")], []),
    (106, "no slack for a binding that was held when last heard of",
     [(BOOK, "    return held ? interval(timeout, scope) : timing::Duration::zero();",
       "    return held && false ? interval(timeout, scope) : timing::Duration::zero();")], DEADLINES),
    (107, "the sender keeps its cursor for a restarted receiver",
     [(LIST, "  if (peer.boot == boot && claimed.value != 0 && claimed >= peer.acked && claimed <= peer.sent) {\n"
       "    peer.acked = claimed;",
       "  if (!peer.boot.is_none() && claimed <= peer.sent) {\n"
       "    peer.boot = boot;\n"
       "    peer.acked = std::max(peer.acked, claimed);"),
      (LIST, ".kind = SnapshotBegin::Kind::kResume}",
       ".kind = claimed.value == 0 ? SnapshotBegin::Kind::kFull : SnapshotBegin::Kind::kResume}")],
     []),
    (108, "an expired record is accepted",
     [(CHANGE, "m.theirs.live() && m.expired.b && !mine.live();",
       "m.theirs.live() && m.expired.b && !mine.live() && false;")], []),
    (109, "a tombstone is forgotten without acknowledgement",
     [(LIST_HEADER, "    if (!is_acknowledged_by_all(entry)) {", "    if (false) {")], [EXCHANGE]),
    (110, "home adopts what peers send without merging",
     [(CHANGE, "  Record out = a_wins ? a : b;", "  Record out = b_lives ? b : a;")], []),
    (111, "unacknowledged updates are not sent again",
     [(LIST, "    peer.to_send = peer.to_settle;", "    peer.to_settle = peer.to_send;\n"
       "    peer.owed = 0;")], []),
    (112, "take-over without the fence",
     [(EXCHANGE_HEADER, "{ return fences_.passed >= fence; }", "{ return fences_.wanted >= fence; }")],
     ["tests/sim/cluster.cc", "tests/sim/member.cc"]),
    (113, "the later creation wins",
     [(CHANGE, "      a_wins = a.stamp < b.stamp;", "      a_wins = a.stamp > b.stamp;")], []),
    (114, "the result of a conflict is not told to the other peers",
     [(CHANGE, "    if (conflict || (changed &&", "    if ((conflict && false) || (changed &&")], []),
    (115, "an update is lost when the ring to the mirror is full",
     [(TELLER, "  home.owed = !news().push(change);",
       "  (void)news().push(change);\n  home.owed = false;")], []),
    (116, "home keeps no tombstone",
     [(KEEPER, "  if (!book_.tombstones.raise(record.scope, record.key, book_.next_stamp()))",
       "  if (book_.next_stamp().value == 0)")], []),
    (117, "a tombstone is forgotten at the acknowledgement",
     [(LIST_HEADER, "    } else if (now - entry.since >= keep(entry.scope)) {",
       "    } else if (keep(entry.scope) >= keep(entry.scope)) {")], [EXCHANGE]),
    (118, "a tombstone kills later creations",
     [(CHANGE, "  const bool a_lives = a.stamp > deleted;",
       "  const bool a_lives = a.stamp > deleted && b.deleted.value == 0;")], []),
    (119, "held is never cleared by a release",
     [(ANNOUNCER, "(a.held && !book_.is_ours(a.act)) || at <", "a.held || at <")], []),
    (120, "what a lost peer had sent is not passed on",
     [(LIST, "  lost_ |= bit(index.value);\n", "")], []),
    (121, "a re-creation's stamp is not above the tombstone",
     [(MERGER, "  book_.stamps.observe(std::max({m.record.stamp, m.record.deleted, m.record.act}), book_.wall());\n",
       "")], []),
    (122, "the creator grants itself no slack",
     [(BOOK, "    return std::max(own, act_at + timeout + slack(a.held || theirs_is_later, timeout, scope));",
       "    const bool ours = binding::StampClock::node_of(a.act) >> 6 == options.node >> 6;\n"
       "    return std::max(own, act_at + timeout +\n"
       "                         slack((a.held && !ours) || theirs_is_later, timeout, scope));")],
     DEADLINES),
    (123, "activity after an idle gap is not announced at once",
     [(ANNOUNCER_HEADER, "    if (book_.announcing && !home.holding) announce_activity(record, home);\n", "")],
     USERS),
    (124, "the list has what peers send before home merged it",
     [(EXCHANGE, "  if (scope != nullptr) return send(*scope, arrival);",
       "  if (scope != nullptr)\n"
       "    list_.update({.scope = arrival.scope, .key = arrival.key, .record = arrival.record,\n"
       "                  .act_at = arrival.act_at, .told = binding::Told::kNobody,\n"
       "                  .source = arrival.source}, now_);\n"
       "  if (scope != nullptr) return send(*scope, arrival);")], []),
    (125, "news of an older session is not told to all",
     [(LIST, "  if (told == Told::kAll || is_old(source)) *targets", "  if (told == Told::kAll) *targets")],
     []),
    (126, "no husk",
     [(RECORDS, "  if (record.confirmed && book_.shares(*scope) && !husk_is_over(record, *scope))",
       "  if (record.confirmed && book_.shares(*scope) && !husk_is_over(record, *scope) && false)")], []),
    (140, "a husk in the way of a deletion is taken for a binding, which is asserted",
     [(RECORDS, "  if (record.husk) {\n    if (whom.told", "  if (false) {\n    if (whom.told")],
     []),
    (127, "the result of a conflict is not told to the peer it came from",
     [(LIST, "  if (told == Told::kAll || is_old(source)) *targets = everyone();",
       "  if (told == Told::kAll || is_old(source))\n"
       "    *targets = static_cast<Mask>(everyone() & ~(foreign ? bit(source.peer.value) : 0));")], []),
    (128, "an expired lineage beats a live one",
     [(CHANGE, "    } else if (expired.a != expired.b) {", "    } else if (false) {")], []),
    (129, "a revived husk, or a binding beside a tombstone, is told to nobody else",
     [(MERGER, "    teller_.tell_mirror(husk, home, {Told::kAll, x.m.source});",
       "    teller_.tell_mirror(husk, home, {Told::kNobody, x.m.source});"),
      (CHANGE, "(changed && (deleted.value != 0 || m.from_disk))", "(changed && m.from_disk)")], []),
    (130, "the losing lineage's activity is dropped",
     [(CHANGE, "  out.act = latest.act;\n  out.held = latest.held;\n", "")], []),
    (131, "FORGET without comparing the stamp",
     [(TOMBSTONES, "at == base::HashIndex::kNone || places_[at].deleted != deleted) return false;",
       "at == base::HashIndex::kNone) return false;")], [MERGER]),
    (132, "a pushed copy starts with `told_idle` clear",
     [(HOLDER, "    begin_life(*copy);\n    copy->told_idle = !m.answer;",
       "    begin_life(*copy);\n    copy->told_idle = false;"),
      (HOLDER, "    copy->last = persist::kNoActivity;\n    copy->told_idle = !m.answer;",
       "    copy->last = persist::kNoActivity;\n    copy->told_idle = false;")], []),
    (133, "a round announces \"released\" although a TOUCH came before its last answer",
     [(ANNOUNCER, "home.found_held || home.heard || record.open > 0;",
       "home.found_held || record.open > 0;")], []),
    (134, "what found the ring to the mirror full is told to the sender of other news alone",
     [(TELLER, "  const Whom whom = home.owed ? Whom{Told::kAll, {}} : given;",
       "  const Whom whom = given;")], []),
    (135, "a release of ours covers what another engine held not long before",
     [(ANNOUNCER, "(a.held && !book_.is_ours(a.act)) || at < a.others_held_at() + 2 * r;",
       "a.held && !book_.is_ours(a.act);")], []),
    (136, "a scope's tombstone is forgotten while homes still remove what it kills",
     [(EXCHANGE, "    return k.fence && has_passed(*k.fence) &&", "    return true;\n    return k.fence && has_passed(*k.fence) &&")], []),
    (137, "a round before its time that finds the binding held leaves a peer's release as it is",
     [(ANNOUNCER, "  if (home.early && a.held && book_.is_ours(a.act)) return;", "  if (home.early) return;")],
     []),
    (138, "a close is announced as a release although another core has connections",
     [(ANNOUNCER, "      begin_round(*record, /*early=*/true);",
       "      announce_release(*record, book_.home(*record));")], []),
]
