// lookups: persist::Table beside rte_hash, in one process and in turns: hits and misses in batches
// of 32, inserts, bytes an entry. One line of JSON a result.
//
//   bench_persist_lookups --memory-mb N [--hugepages] [--core N] [--rounds N]
//                         [--sizes NAME=ENTRIES,...]
//
// Fairness. Both tables, and the records beside rte_hash, are in DPDK's heap: hugepages or small
// pages alike. Both are asked for the same number of entries and hold them all. Both are asked the
// same clients in the same random order, drawn ahead; the clients are spread over the whole table.
// A hit is of use only with what is stored, so it reads the entry's server: of rte_hash, from an
// array of 64-byte entries by the position it gives. Its look-ups without that are "bare".
// rte_hash's keys are the same: 16 bytes and a scope of 4.
#include <rte_errno.h>
#include <rte_hash.h>
#include <rte_malloc.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/prefetch.h"
#include "common/base/random.h"
#include "dataplane/persist/table.h"
#include "dataplane/port/eal.h"
#include "dataplane/port/memory.h"
#include "tests/bench/persist/cpu_time.h"

namespace limpet::bench {
namespace {

using binding::Key;
using persist::Entry;
using persist::Table;

constexpr uint32_t kBatch = 32;
constexpr binding::ScopeSlot kScope{3};
constexpr int kAnyNode = SOCKET_ID_ANY;
constexpr uint32_t kQueriesMax = 1u << 22;  // 64 MB of keys: more than caches hold
constexpr uint32_t kChunk = 1u << 19;       // look-ups of one in its turn

// What rte_hash is given: as many bytes as a Key and its scope have.
struct PlainKey {
  std::array<uint32_t, 5> words;
};
static_assert(sizeof(PlainKey) == sizeof(Key) + sizeof(binding::ScopeSlot));

PlainKey plain(const Key& key) {
  PlainKey out;
  std::memcpy(out.words.data(), &key, sizeof key);
  out.words[4] = kScope.value;
  return out;
}

// A bijection of 32 bits (the finaliser of MurmurHash3): clients that differ, in no order.
uint32_t scattered(uint32_t x) {
  x = (x ^ x >> 16) * 0x85ebca6bu;
  x = (x ^ x >> 13) * 0xc2b2ae35u;
  return x ^ x >> 16;
}

// The n-th client: IPv4 and IPv6 in turns.
Key client(uint32_t n) {
  const uint32_t x = scattered(n);
  if (n % 2 == 0) return Key::of(net::Address::v4_host(x));
  std::array<uint32_t, 4> v6{0x00100120u, scattered(x), x, scattered(~x)};
  return Key::of(net::Address::v6(v6.data()));
}

[[noreturn]] void fail(std::string_view what) {
  std::fprintf(stderr, "lookups: %.*s\n", static_cast<int>(what.size()), what.data());
  std::exit(1);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

std::size_t heap_bytes() {
  std::size_t sum = 0;
  for (int node = 0; node < RTE_MAX_NUMA_NODES; ++node) {
    rte_malloc_socket_stats stats{};
    if (rte_malloc_get_socket_stats(node, &stats) == 0) sum += stats.heap_allocsz_bytes;
  }
  return sum;
}

class Ours {
 public:
  Ours(uint32_t entries, const base::KeyedHash& hash)
      : table_({.entries = entries, .homes = 0}, hash, &memory_) {}

  double bytes_per_entry() const {
    return static_cast<double>(memory_.in_use()) / table_.capacity().entries;
  }
  // Look-up included, as rte_hash does it.
  void insert(std::span<const Key> keys) {
    for (const Key& key : keys) {
      if (table_.find(kScope, key) != nullptr) fail("a client twice");
      table_.insert(kScope, key).server = binding::ServerId{key.words[1]};
    }
  }
  // Of the servers that were found; 0 for nothing.
  uint64_t sum(std::span<const Key> keys) {
    uint64_t sum = 0;
    for (std::size_t i = 0; i < keys.size(); i += kBatch) {
      Entry* found[kBatch];
      table_.find(kScope, keys.subspan(i, kBatch), found);
      for (const Entry* e : found) sum += e == nullptr ? 0 : e->server.value;
    }
    return sum;
  }

 private:
  port::TableMemory memory_{true, kAnyNode};
  Table table_;
};

class Theirs {
 public:
  explicit Theirs(uint32_t entries) : entries_(entries) {
    const std::size_t before = heap_bytes();
    rte_hash_parameters p{};
    p.name = "reference";
    p.entries = entries;
    p.key_len = sizeof(PlainKey);
    p.socket_id = kAnyNode;
    // Without the second flag it may refuse an entry well below what it was made for.
    p.extra_flag = RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF | RTE_HASH_EXTRA_FLAGS_EXT_TABLE;
    hash_ = rte_hash_create(&p);
    if (hash_ == nullptr) fail("rte_hash_create: " + port::error_text(rte_errno));
    bytes_ = heap_bytes() - before;
    const int32_t positions = rte_hash_max_key_id(hash_) + 1;
    records_ = static_cast<Entry*>(
        rte_zmalloc("records", static_cast<std::size_t>(positions) * sizeof(Entry), 64));
    if (records_ == nullptr) fail("no memory for records");
  }
  ~Theirs() {
    rte_free(records_);
    rte_hash_free(hash_);
  }
  Theirs(const Theirs&) = delete;
  Theirs& operator=(const Theirs&) = delete;

  double bytes_per_entry() const { return static_cast<double>(bytes_) / entries_; }
  void insert(std::span<const PlainKey> keys) {
    for (const PlainKey& key : keys) {
      const int32_t at = rte_hash_add_key(hash_, &key);
      if (at < 0) fail("rte_hash refused an entry: " + port::error_text(at));
      Entry& e = records_[at];
      std::memcpy(e.key.words.data(), key.words.data(), sizeof e.key);
      e.server = binding::ServerId{e.key.words[1]};
    }
  }
  template <bool kRecords>
  uint64_t sum(std::span<const PlainKey> keys) {
    uint64_t sum = 0;
    for (std::size_t i = 0; i < keys.size(); i += kBatch) {
      const void* wanted[kBatch];
      for (uint32_t k = 0; k < kBatch; ++k) wanted[k] = &keys[i + k];
      int32_t at[kBatch];
      rte_hash_lookup_bulk(hash_, wanted, kBatch, at);
      if constexpr (kRecords) {
        for (const int32_t a : at) {
          if (a >= 0) base::prefetch(&records_[a]);
        }
        for (const int32_t a : at) sum += a < 0 ? 0 : records_[a].server.value;
      } else {
        for (const int32_t a : at) sum += a < 0 ? 0 : 1;
      }
    }
    return sum;
  }

 private:
  uint32_t entries_;
  rte_hash* hash_ = nullptr;
  std::size_t bytes_ = 0;
  Entry* records_ = nullptr;
};

// Seconds of this thread that `work` takes, for each thing it does.
template <class Work>
double seconds_each(std::size_t count, Work&& work) {
  const double begin = thread_cpu_seconds();
  work();
  return (thread_cpu_seconds() - begin) / static_cast<double>(count);
}

struct Size {
  std::string name;
  uint32_t entries;
};

class Bench {
 public:
  Bench(Size size, uint32_t rounds, base::Random& random)
      : size_(std::move(size)), rounds_(rounds), random_(random), hash_(random) {}

  void run() {
    std::fprintf(stderr, "lookups: %s: %u entries\n", size_.name.c_str(), size_.entries);
    ours_ = std::make_unique<Ours>(size_.entries, hash_);
    theirs_ = std::make_unique<Theirs>(size_.entries);
    insert();
    queries(0);
    look_up("lookup_hit_", true);
    queries(size_.entries);
    look_up("lookup_miss_", false);
    std::printf(
        "{\"name\": \"entry_bytes\", \"value\": %.1f, \"unit\": \"bytes\", \"reference\": "
        "\"rte_hash without records\", \"reference_value\": %.1f, \"ratio\": %.4f}\n",
        ours_->bytes_per_entry(), theirs_->bytes_per_entry(),
        ours_->bytes_per_entry() / theirs_->bytes_per_entry());
    std::fflush(stdout);
  }

 private:
  void insert() {
    std::vector<double> ours, theirs;
    const uint32_t chunk = std::min(kChunk, std::max(size_.entries / 8, 1u));
    std::vector<Key> keys;
    std::vector<PlainKey> plain_keys;
    for (uint32_t at = 0; at < size_.entries; at += chunk) {
      keys.clear();
      plain_keys.clear();
      for (uint32_t n = at; n < std::min(at + chunk, size_.entries); ++n) {
        keys.push_back(client(n));
        plain_keys.push_back(plain(keys.back()));
      }
      ours.push_back(seconds_each(keys.size(), [&] { ours_->insert(keys); }));
      theirs.push_back(seconds_each(keys.size(), [&] { theirs_->insert(plain_keys); }));
    }
    // rte_hash looks for the key before it adds it; so do we.
    report("insert_", "inserts/s", 1 / median(ours), 1 / median(theirs), 0);
  }

  // Random ones of the clients from the `first` on.
  void queries(uint32_t first) {
    const uint32_t count =
        std::min(kQueriesMax, std::max(8 * size_.entries, kBatch)) & ~(kBatch - 1);
    keys_.resize(count);
    plain_keys_.resize(count);
    for (uint32_t i = 0; i < count; ++i) {
      keys_[i] = client(first + random_.below(size_.entries));
      plain_keys_[i] = plain(keys_[i]);
    }
  }

  void look_up(const char* name, bool hit) {
    std::vector<double> ours, theirs, bare;
    uint64_t sums[2] = {};
    const auto chunk = std::min<std::size_t>(kChunk, keys_.size());
    for (uint32_t round = 0; round < rounds_; ++round) {
      const std::size_t at = round * chunk % (keys_.size() - keys_.size() % chunk);
      const auto keys = std::span(keys_).subspan(at, chunk);
      const auto plain_keys = std::span<const PlainKey>(plain_keys_).subspan(at, chunk);
      uint64_t found = 0;
      ours.push_back(seconds_each(chunk, [&] { sums[0] += ours_->sum(keys); }));
      theirs.push_back(seconds_each(chunk, [&] { sums[1] += theirs_->sum<true>(plain_keys); }));
      bare.push_back(seconds_each(chunk, [&] { found = theirs_->sum<false>(plain_keys); }));
      if (found != (hit ? chunk : 0)) fail("rte_hash did not find what it should");
    }
    if (sums[0] != sums[1] || (sums[0] != 0) != hit) fail("the two found different servers");
    // A miss has no record to read.
    if (hit) report(name, "lookups/s", 1 / median(ours), 1 / median(theirs), 1 / median(bare));
    if (!hit) report(name, "lookups/s", 1 / median(ours), 1 / median(bare), 0);
  }

  // `bare`: 0 when there is no such number.
  void report(const char* what, const char* unit, double ours, double theirs, double bare) {
    std::printf(
        "{\"name\": \"%s%s\", \"value\": %.0f, \"unit\": \"%s\", \"reference\": \"rte_hash%s\", "
        "\"reference_value\": %.0f, \"ratio\": %.4f",
        what, size_.name.c_str(), ours, unit, bare > 0 ? " with record" : "", theirs,
        ours / theirs);
    if (bare > 0) std::printf(", \"bare\": %.0f", bare);
    std::printf("}\n");
    std::fflush(stdout);
  }

  const Size size_;
  const uint32_t rounds_;
  base::Random& random_;
  const base::KeyedHash hash_;
  std::unique_ptr<Ours> ours_;
  std::unique_ptr<Theirs> theirs_;
  std::vector<Key> keys_;
  std::vector<PlainKey> plain_keys_;
};

std::vector<Size> sizes_of(std::string_view text) {
  std::vector<Size> sizes;
  while (!text.empty()) {
    const std::string one(text.substr(0, text.find(',')));
    text.remove_prefix(std::min(text.size(), one.size() + 1));
    const std::size_t equals = one.find('=');
    if (equals == std::string::npos) fail("--sizes is NAME=ENTRIES,...");
    sizes.push_back({one.substr(0, equals),
                     static_cast<uint32_t>(std::strtoul(&one[equals + 1], nullptr, 10))});
  }
  return sizes;
}

}  // namespace
}  // namespace limpet::bench

int main(int argc, char** argv) {
  using namespace limpet;
  port::EalOptions eal_options{.name = "bench-" + std::to_string(getpid()), .hugepages = false};
  uint32_t rounds = 15;
  std::string sizes = "64k=65536,1m=1000000,8m=8000000";
  for (int i = 1; i < argc; ++i) {
    const std::string_view option = argv[i];
    if (option == "--hugepages") {
      eal_options.hugepages = true;
      continue;
    }
    if (i + 1 == argc) bench::fail("an option without its value");
    const char* value = argv[++i];
    const auto number = static_cast<uint32_t>(std::strtoul(value, nullptr, 10));
    if (option == "--memory-mb") eal_options.memory_mb = number;
    if (option == "--core") eal_options.control_core = number;
    if (option == "--rounds") rounds = number;
    if (option == "--sizes") sizes = value;
  }
  auto eal = port::Eal::start(eal_options);
  if (!eal) bench::fail(eal.errors().front().message);
  base::Random random(1);
  for (bench::Size& size : bench::sizes_of(sizes))
    bench::Bench(std::move(size), rounds, random).run();
  return 0;
}
