// What the API asks about bindings: listing. Listings come from the mirror; the cores are asked
// only how many connections the keys of a page have.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

#include "control/engine/engine.h"

namespace limpet::engine {

using timing::Instant;
using timing::seconds;

namespace {

api::Refusal refusal(unsigned status, std::string path, std::string message) {
  return {status, {{std::move(path), std::move(message)}}};
}

constexpr uint32_t kMirrorPlacesPerTick = 16384;
constexpr uint32_t kNewsPerTick = 4096;  // of each worker

}  // namespace

std::string Engine::Cursor::to_string() const {
  return fmt::format("{}.{}.{}", place, began_ns, count);
}

std::optional<Engine::Cursor> Engine::Cursor::parse(std::string_view text) {
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

// What the homes have to say. A bounded part: the rest waits in the rings.
void Engine::drain_news() {
  using Burst = std::array<persist::Change, base::kBurstPacketsMax>;
  Burst bursts[2];
  const Instant now = clock_.now();
  for (auto& ring : shared_->rings.news) {
    std::span<const persist::Change> burst;
    // While one is applied, the memory that the next one needs is on its way.
    for (uint32_t taken = 0, b = 0;; b ^= 1) {
      const uint32_t n = taken < kNewsPerTick ? ring.pop(std::span(bursts[b])) : 0;
      const std::span<const persist::Change> next(bursts[b].data(), n);
      exchange_->expect(next);
      exchange_->expect_soon(burst);
      for (const persist::Change& change : burst) {
        exchange_->apply(change, now);
        note_lag(change, now);
      }
      if (n == 0) break;
      burst = next;
      taken += n;
    }
  }
}

void Engine::ask(std::vector<std::unique_ptr<worker::Job>> jobs,
                 std::function<void(const Question&)> done) {
  for (uint32_t w = 0; w < jobs.size(); ++w) {
    worker::ControlMessage message;
    message.kind = worker::ControlMessage::Kind::kJob;
    message.job = jobs[w].get();
    messages_[w].push_back(message);
  }
  questions_.push_back({std::move(jobs), std::move(done)});
  flush_messages();
}

void Engine::finish_questions() {
  while (!questions_.empty()) {
    for (const auto& job : questions_.front().jobs) {
      if (!job->done.load(std::memory_order_acquire)) return;
    }
    const Question question = std::move(questions_.front());
    questions_.pop_front();
    question.done(question);
  }
}

// Names to slots and identities. `nobody`: the filter is right, but no entry can match.
std::optional<api::Refusal> Engine::resolve(const api::EntryFilter& filter,
                                            worker::EntryFilter* out, bool* nobody) const {
  const snapshot::Snapshot& s = *running_.snapshot;
  const auto& document = running_.document->document;
  const auto named = [](const auto& object, const std::string& text) {
    return object.name == text || object.uuid == text;
  };
  std::set<std::string_view> pools_of_tenant;
  for (const config::Pool& pool : document.pools)
    if (filter.tenant == pool.tenant) pools_of_tenant.insert(pool.uuid);
  if (filter.virtual_service &&
      std::none_of(document.virtual_services.begin(), document.virtual_services.end(),
                   [&](const auto& vs) { return named(vs, *filter.virtual_service); })) {
    return refusal(404, "/query/virtual_service", "no such virtual service");
  }
  if (filter.pool && std::none_of(document.pools.begin(), document.pools.end(),
                                  [&](const auto& pool) { return named(pool, *filter.pool); })) {
    return refusal(404, "/query/pool", "no such pool");
  }
  out->scopes.assign(s.scopes.size(), false);
  for (const snapshot::Scope& scope : s.scopes) {
    if (!scope.live) continue;
    const snapshot::Pool& pool = s.pools[scope.pool.value];
    if (filter.tenant && !pools_of_tenant.contains(pool.uuid)) continue;
    if (filter.pool && !named(pool, *filter.pool)) continue;
    if (filter.virtual_service &&
        std::none_of(s.virtual_services.begin(), s.virtual_services.end(), [&](const auto& vs) {
          return vs.scope == scope.slot && named(vs, *filter.virtual_service);
        })) {
      continue;
    }
    out->scopes[scope.slot.value] = true;
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
            (!filter.server->port || *filter.server->port == server.port)) {
          out->servers.push_back(server.id);
        }
      }
    }
    std::sort(out->servers.begin(), out->servers.end());
    *nobody = out->servers.empty();
  }
  return std::nullopt;
}

api::EntryRow Engine::row(const mirroring::Mirror::Binding& binding,
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
  const Instant now = clock_.now();
  if (presence.open == 0) {
    const auto left = std::max(presence.deadline - now, timing::Duration::zero());
    out.life_time_s = static_cast<uint64_t>((left + seconds(1) - timing::Duration(1)) / seconds(1));
  }
  out.created = persist::StampClock::made_at(binding.record.stamp);
  out.epoch = binding.record.epoch;
  out.origin = origin_of(binding.record.stamp);
  return out;
}

// What all cores together have of the i-th key they were asked about.
Engine::Presence Engine::presence(const Question& question, std::size_t i) {
  Presence out;
  out.deadline = persist::kNoActivity;
  for (const auto& job : question.jobs) {
    const worker::Job::Seen& seen = job->seen[i];
    if (!seen.present) continue;
    out.present = true;
    out.open += seen.open;
    out.deadline = std::max(out.deadline, seen.deadline);
  }
  return out;
}

void Engine::list_entries(api::EntryFilter filter, api::PageRequest page,
                          api::Answer<api::Outcome<api::EntryPage>> answer) {
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
  drain_news();
  listings_.push_back(std::move(listing));
  go_on_listing();
}

// A slice of the walk of the oldest listing. Bindings that were made after it began are not shown,
// so one that is made anew is not shown twice.
void Engine::go_on_listing() {
  if (listings_.empty()) return;
  Listing& listing = listings_.front();
  const snapshot::Snapshot& s = *running_.snapshot;
  const uint32_t end = std::min(listing.at + kMirrorPlacesPerTick, mirror().places());
  bool full = false;
  for (; listing.at < end && !full; ++listing.at) {
    const mirroring::Mirror::Binding* b = mirror().at(listing.at);
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
  if (!full && listing.at < mirror().places()) return;
  const auto done = std::make_shared<Listing>(std::move(listing));
  listings_.pop_front();
  std::vector<std::unique_ptr<worker::Job>> jobs;
  for (std::size_t w = 0; w < cores_.size(); ++w) {
    auto job = std::make_unique<worker::Job>();
    job->kind = worker::Job::Kind::kInspect;
    job->wanted = done->page;
    job->seen.resize(done->page.size());
    jobs.push_back(std::move(job));
  }
  ask(std::move(jobs), [this, done](const Question& q) { answer_listing(*done, q); });
}

void Engine::answer_listing(Listing& listing, const Question& question) {
  const Instant now = clock_.now();
  api::EntryPage out;
  out.count = listing.cursor.count;
  for (std::size_t i = 0; i < listing.page.size(); ++i) {
    const auto& [slot, key] = listing.page[i];
    const mirroring::Mirror::Binding* binding = mirror().find(slot, key);
    const snapshot::Scope* scope = running_.snapshot->scope(slot);
    if (binding != nullptr && scope != nullptr) {
      const Presence found = presence(question, i);
      // Over, though its home has not come round to it yet.
      if (found.present && (found.open > 0 || now < found.deadline)) {
        out.rows.push_back(row(*binding, found));
        continue;
      }
    }
    --out.count;
  }
  if (listing.more)
    out.next = Cursor{*listing.more, listing.cursor.began_ns, out.count}.to_string();
  listing.answer(std::move(out));
}

}  // namespace limpet::engine
