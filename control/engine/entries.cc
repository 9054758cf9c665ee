#include "control/engine/entries.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <unordered_set>
#include <utility>

namespace limpet::engine {

using timing::Instant;
using timing::seconds;

namespace {

constexpr uint32_t kListingPlacesPerTick = 16384;

api::Refusal refusal(unsigned status, std::string path, std::string message) {
  return {status, {{std::move(path), std::move(message)}}};
}

bool is_named(const auto& object, const std::string& text) {
  return object.name == text || object.uuid == text;
}

// What all cores together have of the i-th key they were asked about.
Presence presence_of(const Jobs& jobs, std::size_t i) {
  Presence out;
  for (const auto& job : jobs) {
    const worker::Job::Seen& seen = job->seen[i];
    if (!seen.present) continue;
    out.present = true;
    out.open += seen.open;
    out.deadline = std::max(out.deadline, seen.deadline);
  }
  return out;
}

}  // namespace

std::string Entries::Cursor::to_string() const {
  return fmt::format("{}.{}.{}", place, began_ns, count);
}

std::optional<Entries::Cursor> Entries::Cursor::parse(std::string_view text) {
  Cursor c;
  const char* at = text.data();
  const char* end = at + text.size();
  const auto number = [&](auto* value, bool last) {
    const auto [next, error] = std::from_chars(at, end, *value);
    if (error != std::errc{} || (last ? next != end : next == end || *next != '.')) return false;
    at = next + 1;
    return true;
  };
  if (!number(&c.place, false) || !number(&c.began_ns, false) || !number(&c.count, true))
    return std::nullopt;
  return c;
}

std::optional<api::Refusal> Entries::resolve(const api::EntryFilter& filter,
                                             worker::EntryFilter* out, bool* nobody) const {
  const snapshot::Snapshot& s = *running_.snapshot;
  const auto& document = running_.document->document;
  out->version = s.version;
  out->scopes.assign(s.scopes.size(), !filter.virtual_service);
  if (filter.virtual_service) {
    bool any = false;
    for (std::size_t i = 0; i < document.virtual_services.size(); ++i) {
      if (!is_named(document.virtual_services[i], *filter.virtual_service)) continue;
      any = true;
      for (const auto slot : running_.inventory->services[i].scopes) out->scopes[slot.value] = true;
    }
    if (!any) return refusal(404, "/query/virtual_service", "no such virtual service");
  }
  if (filter.pool) {
    if (std::ranges::none_of(document.pools,
                             [&](const auto& pool) { return is_named(pool, *filter.pool); }))
      return refusal(404, "/query/pool", "no such pool");
    for (const snapshot::Scope& scope : s.scopes) {
      if (scope.live && !is_named(s.pools[scope.pool.value], *filter.pool))
        out->scopes[scope.slot.value] = false;
    }
  }
  if (filter.tenant) {
    std::unordered_set<std::string_view> pools;
    for (const config::Pool& pool : document.pools) {
      if (pool.tenant == *filter.tenant) pools.insert(pool.uuid);
    }
    for (const snapshot::Scope& scope : s.scopes) {
      if (scope.live && !pools.contains(s.pools[scope.pool.value].uuid))
        out->scopes[scope.slot.value] = false;
    }
  }
  if (filter.client) {
    if (const auto* address = std::get_if<net::Address>(&*filter.client)) out->client = *address;
    if (const auto* prefix = std::get_if<net::Prefix>(&*filter.client))
      out->clients = prefix->network();
  }
  if (filter.server) {
    for (const snapshot::Pool& pool : s.pools) {
      for (const snapshot::Server& server : pool.servers) {
        if (server.address == filter.server->address &&
            (!filter.server->port || *filter.server->port == server.port))
          out->servers.push_back(server.id);
      }
    }
    std::ranges::sort(out->servers);
    *nobody = out->servers.empty();
  }
  return std::nullopt;
}

api::EntryRow Entries::row(const mirroring::Mirror::Binding& binding,
                           const Presence& presence) const {
  api::EntryRow out;
  const snapshot::Scope* scope = running_.snapshot->scope(binding.scope);
  if (scope == nullptr) return out;
  const snapshot::Pool& pool = running_.snapshot->pools[scope->pool.value];
  out.virtual_service = scope->virtual_service;
  out.pool = pool.name;
  out.profile = scope->profile;
  out.type = scope->type;
  const net::Address key = binding.key.address();
  const uint8_t mask = key.is_v4() ? scope->mask_v4 : scope->mask_v6;
  out.key =
      mask < net::address_bits(key.family()) ? net::Prefix{key, mask}.to_string() : key.to_string();
  if (const auto* server = pool.find(binding.record.server)) out.server = server->name;
  out.connections = presence.open;
  if (presence.open == 0) {
    const auto left = std::max(presence.deadline - clock_.now(), timing::Duration::zero());
    out.life_time_s = static_cast<uint64_t>((left + seconds(1) - timing::Duration(1)) / seconds(1));
  }
  out.created = binding::StampClock::made_at(binding.record.stamp);
  out.epoch = binding.record.epoch;
  out.origin = hooks_.origin(binding.record.stamp);
  return out;
}

void Entries::list(const api::EntryFilter& filter, const api::PageRequest& page, Answer answer) {
  Listing listing;
  listing.cursor.began_ns = clock_.now().ns;
  if (!page.cursor.empty()) {
    const auto cursor = Cursor::parse(page.cursor);
    if (!cursor) return answer(refusal(400, "/query/cursor", "is not one that was given out"));
    listing.cursor = *cursor;
    listing.counted = true;
  }
  bool nobody = false;
  if (auto refused = resolve(filter, &listing.wanted, &nobody)) return answer(std::move(*refused));
  if (nobody) return answer(api::EntryPage{});
  listing.limit = page.limit;
  listing.at = listing.cursor.place;
  listing.answer = std::move(answer);
  hooks_.read_news();
  listings_.push_back(std::move(listing));
}

// A slice of the walk of the oldest listing.
void Entries::tick() {
  if (listings_.empty()) return;
  Listing& listing = listings_.front();
  const snapshot::Snapshot& s = *running_.snapshot;
  const uint32_t end = std::min(listing.at + kListingPlacesPerTick, mirror_.places());
  bool full = false;
  for (; listing.at < end && !full; ++listing.at) {
    const mirroring::Mirror::Binding* b = mirror_.at(listing.at);
    if (b == nullptr || b->created.ns > listing.cursor.began_ns) continue;
    if (!listing.wanted.matches(s, b->scope, b->key, b->record.server)) continue;
    const auto& pool = s.pools[s.scope(b->scope)->pool.value];
    if (pool.find(b->record.server) == nullptr) continue;
    if (!listing.counted) ++listing.cursor.count;
    if (listing.page.size() < listing.limit) {
      listing.page.push_back({b->scope, b->key});
    } else if (!listing.more) {
      listing.more = listing.at;
      full = listing.counted;
    }
  }
  if (!full && listing.at < mirror_.places()) return;
  const auto done = std::make_shared<const Listing>(std::move(listing));
  listings_.pop_front();
  Jobs jobs = questions_.jobs([&](worker::Job& job) {
    job.kind = worker::Job::Kind::kInspect;
    job.wanted = done->page;
    job.seen.resize(done->page.size());
  });
  questions_.ask(std::move(jobs), [this, done](const Jobs& all) { answer(*done, all); });
}

void Entries::answer(const Listing& listing, const Jobs& jobs) const {
  const Instant now = clock_.now();
  const snapshot::Snapshot& s = *running_.snapshot;
  api::EntryPage out;
  out.count = listing.cursor.count;
  for (std::size_t i = 0; i < listing.page.size(); ++i) {
    const auto& [slot, key] = listing.page[i];
    const mirroring::Mirror::Binding* b = mirror_.find(slot, key);
    const Presence found = presence_of(jobs, i);
    const bool lives = b != nullptr && found.present && (found.open > 0 || now < found.deadline);
    if (lives && listing.wanted.matches(s, slot, key, b->record.server)) {
      out.rows.push_back(row(*b, found));
    } else {
      --out.count;
    }
  }
  if (listing.more)
    out.next = Cursor{*listing.more, listing.cursor.began_ns, out.count}.to_string();
  listing.answer(std::move(out));
}

}  // namespace limpet::engine
