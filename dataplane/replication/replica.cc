#include "dataplane/replication/replica.h"

#include <array>

namespace limpet::replication {

Replica::Replica(const Options& options, Rings& rings, persist::Bindings& bindings,
                 balance::Picker& picker, const base::KeyedHash& hash, base::Random& random,
                 std::pmr::memory_resource* memory)
    : book_(options, rings, bindings, hash, memory),
      holder_(book_),
      teller_(book_),
      announcer_(book_, teller_, memory),
      records_(book_, teller_),
      evictor_(book_, teller_, records_, random),
      keeper_(book_, {teller_, announcer_, records_, evictor_}, picker),
      merger_(book_, {teller_, announcer_, records_, evictor_, keeper_}) {}

bool Replica::say_last(std::span<Replica* const> cores, uint32_t* at) {
  std::array<persist::Table*, base::kWorkersMax> tables{};
  LIMPET_ASSERT(cores.size() <= tables.size());
  for (std::size_t c = 0; c < cores.size(); ++c) tables[c] = &cores[c]->table();
  return announcer_.say_last(std::span(tables).first(cores.size()), at);
}

}  // namespace limpet::replication
