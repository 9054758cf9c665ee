#include "dataplane/replication/evictor.h"

#include <algorithm>
#include <utility>

namespace limpet::replication {

using persist::Entry;
using persist::Home;
using snapshot::Scope;
using timing::Instant;

Evictor::Evictor(Book& book, Teller& teller, Records& records, base::Random& random)
    : book_(book), teller_(teller), records_(records), random_(random) {
  evicting_.reserve(kEvictionsMax);
}

// Exact eviction takes one at a time; a sample is as good for several.
std::size_t Evictor::evictions_wanted() const {
  if (book_.table.records() <= kExactRecords) return 1;
  std::size_t wanted = 1;
  for (const uint32_t c : book_.rings.claims.peers(book_.options.core))
    wanted += book_.rings.claims.from(c).to(book_.options.core).size();
  return std::min<std::size_t>(wanted, kEvictionsMax);
}

Outcome Evictor::make_room(const Scope& scope, Instant since) {
  const std::size_t wanted = evictions_wanted();
  // What has expired or is doubtful must refuse nobody, even where nothing is purged.
  const bool expired_only = !scope.purge;
  while (evicting_.size() < wanted && nobody_at_[expired_only] != book_.now) {
    if (!may_search()) return Outcome::kWait;
    const Idle idle = longest_idle(since, expired_only);
    if (idle.longest == nullptr && idle.expiring) return Outcome::kWait;
    if (idle.longest == nullptr) {
      nobody_at_[expired_only] = book_.now;
      break;
    }
    Entry& victim = *idle.longest;
    Home& home = book_.home(victim);
    home.evicting = true;
    if (home.copies == 0) {
      if (records_.end_if_due(victim)) return Outcome::kDone;
      home.evicting = false;
      return Outcome::kWait;
    }
    evicting_.push_back({book_.table.place_of(victim), victim.serial});
    teller_.recall(victim, home);
  }
  return evicting_.empty() ? Outcome::kFull : Outcome::kWait;
}

// Nobody has confirmed it in the time that a handshake has.
bool Evictor::is_doubtful(const Entry& record, const Scope* scope) const {
  if (record.confirmed || scope == nullptr) return false;
  return book_.now >=
         record.last + std::min(book_.timeout_of(record, *scope), persist::kEmbryonicTimeout);
}

Evictor::Idle Evictor::longest_idle(Instant since, bool expired_only) {
  const uint32_t places = book_.table.home_places();
  const bool all = places <= kExactRecords;
  uint32_t at = all ? 0 : random_.below(places);
  Idle idle;
  const uint32_t looks = looks_of_search();
  looks_ += looks;
  LIMPET_ASSERT(looks_ <= kLooksPerTurn);
  for (uint32_t i = 0; i < looks; ++i, at = at + 1 == places ? 0 : at + 1) {
    Entry* record = book_.table.record_at(at);
    if (record == nullptr || record->husk || record->held()) continue;
    const Home& home = book_.home(*record);
    const Scope* scope = book_.scope_of(*record);
    const bool over = scope != nullptr && book_.expired(*record, *scope);
    if (home.asked != 0 || home.evicting) {
      idle.expiring = idle.expiring || over;
      continue;
    }
    const bool in_use = record->confirmed && home.copies != 0 && record->last >= since;
    if (expired_only ? !over && !is_doubtful(*record, scope) : in_use) continue;
    const auto rank = [&](const Entry& e) { return std::pair(e.confirmed, book_.idle_since(e)); };
    if (idle.longest == nullptr || rank(*record) < rank(*idle.longest)) idle.longest = record;
  }
  return idle;
}

void Evictor::go_on() {
  std::erase_if(evicting_, [&](const Handle& h) {
    Entry* record = book_.table.at(h.place, h.serial);
    if (record == nullptr || !record->is_home() || !book_.home(*record).evicting) return true;
    if (records_.end_if_due(*record)) return true;
    teller_.recall(*record, book_.home(*record));
    return false;
  });
}

bool Evictor::take_husks_place() {
  for (uint32_t i = 0; records_.husks() > 0 && i < kHuskLooks && looks_ < kLooksPerTurn;
       ++i, ++looks_) {
    husk_at_ = husk_at_ + 1 >= book_.table.home_places() ? 0 : husk_at_ + 1;
    Entry* record = book_.table.record_at(husk_at_);
    if (record == nullptr || !record->husk) continue;
    records_.end_husk(*record);
    return true;
  }
  return false;
}

}  // namespace limpet::replication
