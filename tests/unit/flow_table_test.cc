// FlowTable: capacity, keys of both directions, translations of datagrams balanced one by one.
#include "dataplane/l4/flow_table.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <memory_resource>
#include <vector>

#include "dataplane/packet/plain.h"
#include "tests/support/frames.h"
#include "tests/support/heap_pool.h"

namespace limpet::l4 {
namespace {

using support::address;

struct Names {
  const char *family, *client, *vip, *server, *source;
};

class FlowTableTest : public testing::TestWithParam<Names> {
 protected:
  base::Random random_{42};
  base::KeyedHash hash_{random_};
  FlowTable table_{16, hash_, std::pmr::get_default_resource()};

  // A flow of client port 1000 + n, translated to 5000 + n; null when the table is full.
  Flow* make(uint32_t n) {
    Flow* f = table_.allocate();
    if (f == nullptr) return nullptr;
    f->client = address(GetParam().client);
    f->vip = address(GetParam().vip);
    f->server = address(GetParam().server);
    f->source = address(GetParam().source);
    f->client_port = static_cast<uint16_t>(1000 + n);
    f->vip_port = 80;
    f->server_port = 8080;
    f->source_port = static_cast<uint16_t>(5000 + n);
    f->protocol = 6;
    f->server_slot = snapshot::ServerSlot{0};
    return f;
  }
  FlowRef from_client(uint32_t n, uint8_t protocol = 6) {
    const net::Address client = address(GetParam().client);
    const net::Address vip = address(GetParam().vip);
    const FlowKey key{client, vip, static_cast<uint16_t>(1000 + n), 80, protocol};
    return table_.find(key, table_.hash(key));
  }
  FlowRef from_server(uint32_t n, uint8_t protocol = 6) {
    const net::Address server = address(GetParam().server);
    const net::Address source = address(GetParam().source);
    const FlowKey key{server, source, 8080, static_cast<uint16_t>(5000 + n), protocol};
    return table_.find(key, table_.hash(key));
  }
  FlowRef per_packet(uint32_t n, uint32_t slot) {
    const net::Address client = address(GetParam().client);
    const net::Address vip = address(GetParam().vip);
    return table_.find_per_packet({client, vip, static_cast<uint16_t>(1000 + n), 80, 17},
                                  snapshot::ServerSlot{slot});
  }
};

INSTANTIATE_TEST_SUITE_P(
    Families, FlowTableTest,
    testing::Values(Names{"v4", "10.1.0.2", "10.1.0.100", "10.2.0.2", "10.2.0.1"},
                    Names{"v6", "fd00:1::2", "fd00:1::100", "fd00:2::2", "fd00:2::1"}),
    [](const auto& p) { return std::string(p.param.family); });

TEST_P(FlowTableTest, AFlowIsFoundFromBothSidesAndByItsProtocolOnly) {
  Flow* f = make(0);
  EXPECT_FALSE(from_client(0)) << "not before it was inserted";
  ASSERT_TRUE(table_.insert(*f));
  EXPECT_EQ(from_client(0).index, table_.index_of(*f));
  EXPECT_EQ(from_client(0).direction, Direction::kToServer);
  EXPECT_EQ(from_server(0).index, table_.index_of(*f));
  EXPECT_EQ(from_server(0).direction, Direction::kToClient);
  EXPECT_FALSE(from_client(0, 17));
  EXPECT_FALSE(from_server(0, 17));
  EXPECT_FALSE(from_client(1));
}

TEST_P(FlowTableTest, HoldsExactlyItsCapacity) {
  for (uint32_t n = 0; n < 16; ++n) ASSERT_TRUE(table_.insert(*make(n)));
  EXPECT_EQ(table_.allocate(), nullptr);
  EXPECT_EQ(table_.size(), 16u);
  for (uint32_t n = 0; n < 16; ++n) EXPECT_TRUE(from_client(n) && from_server(n));
  table_.erase(table_[from_client(7).index]);
  EXPECT_FALSE(from_client(7) || from_server(7));
  ASSERT_TRUE(table_.insert(*make(20)));
  EXPECT_EQ(table_.allocate(), nullptr);
}

TEST_P(FlowTableTest, RefusesAFlowWhoseClientSideAnotherHas) {
  ASSERT_TRUE(table_.insert(*make(0)));
  Flow* same = make(0);
  same->source_port = 6000;
  EXPECT_FALSE(table_.insert(*same));
  table_.discard(*same);
  EXPECT_EQ(table_.size(), 1u);
}

TEST_P(FlowTableTest, RefusesAFlowWhoseServerSideAnotherHas) {
  ASSERT_TRUE(table_.insert(*make(0)));
  Flow* same = make(1);
  same->source_port = 5000;
  EXPECT_FALSE(table_.insert(*same));
  table_.discard(*same);
  EXPECT_TRUE(from_client(0));
  EXPECT_FALSE(from_client(1));
}

TEST_P(FlowTableTest, ADiscardedRecordIsHandedOutClean) {
  Flow* f = make(0);
  table_.discard(*f);
  Flow* again = table_.allocate();
  EXPECT_EQ(again, f);
  EXPECT_EQ(again->client_port, 0);
  EXPECT_FALSE(again->used);
}

TEST_P(FlowTableTest, ThePlainParserHashesAsTheTableDoes) {
  const packet::Ingress ingress{.mac = support::mac(support::kEngineMac)};
  support::HeapPool pool(1);
  for (const support::Frame& frame :
       {support::udp({GetParam().client, 1000, GetParam().vip, 80}, "x"),
        support::tcp({GetParam().client, 1000, GetParam().vip, 80}, packet::kTcpAck)}) {
    packet::Buffer* buffer = support::make_buffer(pool.pool(), frame.build());
    ASSERT_TRUE(packet::parse_plain(buffer, {&ingress, 1}, hash_));
    const packet::Meta& m = packet::meta(buffer);
    EXPECT_EQ(m.hash, table_.hash({m.source, m.destination, 1000, 80, frame.protocol}));
    packet::release(buffer);
  }
}

TEST_P(FlowTableTest, PerPacketTranslationsDifferByServerAndAreNoFlowsForClients) {
  for (uint32_t slot = 0; slot < 3; ++slot) {
    Flow* f = make(slot);
    f->client_port = 1000;
    f->protocol = 17;
    f->look.per_packet = true;
    f->server_slot = snapshot::ServerSlot{slot};
    ASSERT_TRUE(table_.insert(*f));
  }
  EXPECT_FALSE(from_client(0, 17)) << "the next datagram is balanced anew";
  for (uint32_t slot = 0; slot < 3; ++slot) {
    const FlowRef ref = per_packet(0, slot);
    ASSERT_TRUE(ref);
    EXPECT_EQ(table_[ref.index].server_slot.value, slot);
    EXPECT_EQ(from_server(slot, 17).index, ref.index);
  }
  table_.erase(table_[per_packet(0, 1).index]);
  EXPECT_FALSE(per_packet(0, 1));
  EXPECT_TRUE(per_packet(0, 0) && per_packet(0, 2));
}

TEST_P(FlowTableTest, RandomUseFindsWhatIsThereAndNothingElse) {
  std::vector<bool> there(40);
  base::Random random(0xf10e);
  uint32_t count = 0;
  for (int step = 0; step < 20'000; ++step) {
    const uint32_t n = random.below(40);
    if (there[n]) {
      table_.erase(table_[from_client(n).index]);
      there[n] = false;
      --count;
    } else if (Flow* f = make(n); f != nullptr) {
      ASSERT_TRUE(table_.insert(*f));
      there[n] = true;
      ++count;
    } else {
      ASSERT_EQ(count, 16u);
    }
    const uint32_t ask = random.below(40);
    ASSERT_EQ(static_cast<bool>(from_client(ask)), there[ask]);
    ASSERT_EQ(static_cast<bool>(from_server(ask)), there[ask]);
    ASSERT_EQ(table_.size(), count);
  }
}

// Both hashes begin with the words of an IPv6 client's address: of clients with one port (syslog,
// NTP) a core has those whose flows' hashes lie in one part of the range too.
TEST(FlowTableCrowd, FlowsOfTheClientsThatAreSteeredHereDoNotCrowd) {
  constexpr uint32_t kCores = 16, kFlows = 20'000;
  base::Random random{42};
  const base::KeyedHash hash{random};
  base::HashIndex index(kFlows, std::pmr::get_default_resource());
  const net::Address vip = address("fd00:1::100");
  std::vector<uint32_t> hashes;
  for (uint32_t n = 0; hashes.size() < kFlows * 9 / 10; ++n) {
    char name[40];
    std::snprintf(name, sizeof name, "2001:db8:%x::%x", n >> 16, n & 0xffff);
    const net::Address client = address(name);
    if (base::reduce(net::hash_address(hash, client, 514), kCores) != 3) continue;
    hashes.push_back(FlowKey{client, vip, 514, 514, 17}.hash(hash));
    index.insert(hashes.back(), n);
  }
  uint64_t sum = 0;
  for (const uint32_t h : hashes) {
    ASSERT_LE(index.steps(h), 12u);
    sum += index.steps(h);
  }
  EXPECT_LT(static_cast<double>(sum), 1.2 * static_cast<double>(hashes.size()));
}

TEST(FlowTableMemory, AFlowTakes192BytesAnd16PerDirectionOfIndex) {
  base::Random random(1);
  const base::KeyedHash hash(random);
  FlowTable table(100'000, hash, std::pmr::get_default_resource());
  EXPECT_LE(table.bytes(), FlowTable::bytes_for(100'000));
  EXPECT_LE(table.bytes(), 100'000u * (192 + 2 * 16) + 256);
  EXPECT_GE(table.bytes(), 100'000u * (192 + 2 * 4)) << "less than flows and their numbers take";
}

}  // namespace
}  // namespace limpet::l4
