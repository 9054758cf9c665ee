#include "control/compile/registry.h"

#include <gtest/gtest.h>

namespace limpet::compile {
namespace {

using binding::ServerId;
using snapshot::NatId;
using snapshot::ServerSlot;
using snapshot::VsSlot;

const net::Address kServer = net::Address::v4_host(0x0a020002);
const std::vector<net::Address> kSources{net::Address::v4_host(0x0a02000a),
                                         net::Address::v4_host(0x0a02000b),
                                         net::Address::v4_host(0x0a02000c)};

// Registers exactly these servers.
void configure(Registry& registry, std::initializer_list<uint64_t> servers) {
  registry.begin();
  for (const uint64_t id : servers) ASSERT_TRUE(registry.servers.acquire(ServerId{id}));
  registry.finish();
}

TEST(Registry, IdentityKeepsItsSlot) {
  Registry registry;
  configure(registry, {7, 8, 9});
  const auto slot = *registry.servers.acquire(ServerId{8});
  configure(registry, {9, 8});
  EXPECT_EQ(*registry.servers.acquire(ServerId{8}), slot);
}

TEST(Registry, RetiredSlotIsNotGivenToOthersUntilItIsRecycled) {
  Registry registry;
  configure(registry, {7, 8});
  configure(registry, {7});
  ASSERT_EQ(registry.retired().servers, std::vector{ServerSlot{1}});
  configure(registry, {7, 9});
  EXPECT_EQ(*registry.servers.acquire(ServerId{9}), ServerSlot{2});
  EXPECT_TRUE(registry.recycle(ServerSlot{1}));
  configure(registry, {7, 9, 10});
  EXPECT_EQ(*registry.servers.acquire(ServerId{10}), ServerSlot{1});
}

TEST(Registry, ServerThatReturnsGetsItsSlotBack) {
  Registry registry;
  configure(registry, {7, 8});
  configure(registry, {7});
  configure(registry, {7, 8});
  EXPECT_EQ(*registry.servers.acquire(ServerId{8}), ServerSlot{1});
  EXPECT_FALSE(registry.recycle(ServerSlot{1}));
}

TEST(Registry, ServerThatReturnsWhileItsConnectionsAreResetGetsAnother) {
  Registry registry;
  configure(registry, {7, 8});
  configure(registry, {7});
  registry.servers.doom(ServerSlot{1});
  configure(registry, {7, 8});
  EXPECT_EQ(*registry.servers.acquire(ServerId{8}), ServerSlot{2});
  EXPECT_EQ(registry.servers.retired(true), std::vector{ServerSlot{1}});
  EXPECT_TRUE(registry.recycle(ServerSlot{1}));
  EXPECT_EQ(*registry.servers.acquire(ServerId{8}), ServerSlot{2});
}

TEST(Registry, VirtualServiceThatReturnsGetsAnotherSlot) {
  Registry registry;
  registry.begin();
  EXPECT_EQ(*registry.virtual_services.acquire("a"), VsSlot{0});
  registry.finish();
  registry.begin();
  registry.finish();
  registry.begin();
  EXPECT_EQ(*registry.virtual_services.acquire("a"), VsSlot{1});
  registry.finish();
  EXPECT_EQ(registry.retired().virtual_services, std::vector{VsSlot{0}});
  EXPECT_TRUE(registry.recycle(VsSlot{0}));
  registry.begin();
  EXPECT_EQ(*registry.virtual_services.acquire("a"), VsSlot{1});
}

TEST(Registry, GivesNothingBeyondTheLimitRetiredSlotsIncluded) {
  SlotMap<ServerId, ServerSlot> slots(2, SlotMap<ServerId, ServerSlot>::Return::kSameSlot);
  slots.begin();
  ASSERT_TRUE(slots.acquire(ServerId{1}));
  ASSERT_TRUE(slots.acquire(ServerId{2}));
  EXPECT_FALSE(slots.acquire(ServerId{3}));
  slots.begin();
  slots.finish();
  EXPECT_FALSE(slots.acquire(ServerId{3}));
  EXPECT_TRUE(slots.recycle(ServerSlot{0}));
  EXPECT_EQ(*slots.acquire(ServerId{3}), ServerSlot{0});
}

TEST(NatBlocks, ServerHasOneIdForEachSourceAddress) {
  NatBlocks nats(100);
  EXPECT_EQ(nats.acquire(kSources, 6, kServer, 80), NatId{0});
  EXPECT_EQ(nats.acquire(kSources, 17, kServer, 80), NatId{3});
  EXPECT_EQ(nats.acquire(kSources, 6, kServer, 443), NatId{6});
  EXPECT_EQ(nats.acquire(kSources, 6, kServer, 0), NatId{9});
  EXPECT_EQ(nats.acquire(kSources, 6, kServer, 80), NatId{0});
  EXPECT_EQ(nats.size(), 12u);
}

TEST(NatBlocks, RetiredBlockComesBackToItsServerOrAfterRecyclingToAnother) {
  NatBlocks nats(100);
  nats.begin();
  EXPECT_EQ(nats.acquire(kSources, 6, kServer, 80), NatId{0});
  nats.finish();
  nats.begin();
  nats.finish();
  EXPECT_EQ(nats.retired(), (std::vector<NatBlock>{{NatId{0}, 3}}));
  EXPECT_EQ(nats.acquire(kSources, 6, kServer, 81), NatId{3});
  EXPECT_EQ(nats.acquire(kSources, 6, kServer, 80), NatId{0});
  EXPECT_FALSE(nats.recycle(NatId{0}));
  nats.begin();
  nats.finish();
  EXPECT_TRUE(nats.recycle(NatId{0}));
  EXPECT_EQ(nats.acquire(kSources, 6, kServer, 82), NatId{0});
}

TEST(NatBlocks, GivesNothingBeyondTheLimit) {
  NatBlocks nats(5);
  EXPECT_TRUE(nats.acquire(kSources, 6, kServer, 80));
  EXPECT_FALSE(nats.acquire(kSources, 6, kServer, 81));
}

}  // namespace
}  // namespace limpet::compile
