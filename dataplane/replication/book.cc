#include "dataplane/replication/book.h"

namespace limpet::replication {

Book::Book(const Options& o, Rings& all_rings, persist::Bindings& all_bindings,
           const base::KeyedHash& hash, std::pmr::memory_resource* memory)
    : options(o),
      announcing(o.peers || o.disk),
      rings(all_rings),
      bindings(all_bindings),
      homes(persist::homes_of(rings.cores(), bindings.limit())),
      table(capacity_of(rings.cores(), rings.capacity, bindings.limit(), announcing), hash, memory),
      tombstones(o.peers ? tombstones_of(rings.cores(), bindings.limit()) : 0, hash, memory),
      scope_tombstones(o.peers, memory),
      stamps(o.node),
      // Serials of different homes must differ too: a flow knows its entry by place and serial.
      serial(o.core * (UINT32_MAX / static_cast<uint32_t>(base::kWorkersMax))) {}

binding::Record Book::record_of(const persist::Entry& record) const {
  const persist::Home& h = home(record);
  binding::Record out{.stamp = h.stamp,
                      .epoch = h.epoch,
                      .server = record.server,
                      .first = record.first,
                      .timeout_ms = h.timeout_ms,
                      .deleted = tombstones.of_key(record.scope, record.key)};
  if (announcing) {
    out.act = activity(record).act;
    out.held = activity(record).held;
  }
  return out;
}

}  // namespace limpet::replication
