// Scopes of bindings: whose they are, what they say, and which change makes another one.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/unit/compile_lab.h"

namespace limpet::compile {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(Compile, ScopeSaysWhatTheProfileSays) {
  Engine engine;
  const auto& s = engine.apply(Builder{
      .profile = R"("server_hm_down_recovery": "HM_DOWN_ABORT_CONNECTION",
        "ip_persistence_profile": {"ip_persistent_timeout": 7, "ip_mask": 24})",
      .pool =
          R"("application_persistence_profile_ref": "/api/applicationpersistenceprofile/?name=sticky",
        "server_disable_type": "ALLOW_NEW_CONNECTION_IF_PERSISTENCE_PRESENT")"});
  const auto* scope = s.scope(tcp(s, "10.1.0.100", 80)->scope);
  ASSERT_NE(scope, nullptr);
  EXPECT_EQ(scope->timeout, timing::minutes(7));
  EXPECT_EQ(scope->mask_v4, 24);
  EXPECT_EQ(scope->down, snapshot::Recovery::kAbort);
  EXPECT_EQ(scope->at_limit, snapshot::Recovery::kAbort);
  EXPECT_EQ(scope->draining, snapshot::Recovery::kContinue);
  EXPECT_EQ(scope->type, "PERSISTENCE_TYPE_CLIENT_IP_ADDRESS");
  EXPECT_EQ(scope->virtual_service, "vs");
  EXPECT_EQ(scope->pool_name, "pool");
  EXPECT_EQ(scope->profile, "sticky");
}

TEST(Compile, TimeoutOfZeroTurnsPersistenceOff) {
  Engine engine;
  const auto& s =
      engine.apply(Builder{.profile = R"("ip_persistence_profile": {"ip_persistent_timeout": 0})"});
  EXPECT_EQ(tcp(s, "10.1.0.100", 80)->scope, binding::kNoScope);
}

constexpr const char* kSecondVs = R"(, {"name": "vs2", "vsvip_ref": "/api/vsvip/?name=vip",
    "services": [{"port": 81}], "pool_ref": "/api/pool/?name=pool",
    "application_profile_ref": "/api/applicationprofile/?name=System-L4-Application",
    "network_profile_ref": "/api/networkprofile/?name=System-TCP-Fast-Path"})";

TEST(Compile, VirtualServicesHaveScopesOfTheirOwn) {
  Engine engine;
  const auto& s = engine.apply(Builder{.other_vs = kSecondVs});
  EXPECT_NE(tcp(s, "10.1.0.100", 80)->scope, tcp(s, "10.1.0.100", 81)->scope);
  EXPECT_EQ(s.scope(tcp(s, "10.1.0.100", 81)->scope)->virtual_service, "vs2");
}

TEST(Compile, SharedProfileIsOneScopeForAllVirtualServicesOfThePool) {
  Engine engine;
  const auto& s = engine.apply(Builder{.profile = R"("persistence_shared": true,
        "ip_persistence_profile": {"ip_persistent_timeout": 5})",
                                       .other_vs = kSecondVs});
  EXPECT_EQ(tcp(s, "10.1.0.100", 80)->scope, tcp(s, "10.1.0.100", 81)->scope);
  EXPECT_EQ(s.scope(tcp(s, "10.1.0.100", 81)->scope)->virtual_service, "");
}

TEST(Compile, ASharedScopeHasThePoolOfAVirtualServiceThatIsServed) {
  Engine engine;
  std::string off = kSecondVs;
  off.insert(off.find("\"services\""), R"("enabled": false, )");
  Builder builder{.profile = R"("persistence_shared": true,
        "ip_persistence_profile": {"ip_persistent_timeout": 5})",
                  .other_vs = off};
  // Whichever of the two comes first in the document.
  for (const bool first : {true, false}) {
    SCOPED_TRACE(first);
    if (!first) {
      builder.vs.insert(0, R"("enabled": false, )");
      builder.other_vs = kSecondVs;
    }
    const auto& s = engine.apply(builder);
    const auto* served = tcp(s, "10.1.0.100", first ? 80 : 81);
    ASSERT_NE(served, nullptr);
    const snapshot::Scope* scope = s.scope(served->scope);
    ASSERT_NE(scope, nullptr);
    EXPECT_EQ(scope->pool, served->pool);
    EXPECT_FALSE(s.pools[scope->pool.value].servers[0].sources.empty());
  }
}

TEST(Compile, ChangedTimeoutKeepsTheScope) {
  Engine engine;
  const auto before = engine.apply(Builder{});
  const auto& s =
      engine.apply(Builder{.profile = R"("ip_persistence_profile": {"ip_persistent_timeout": 9})"});
  EXPECT_EQ(tcp(s, "10.1.0.100", 80)->scope, tcp(before, "10.1.0.100", 80)->scope);
  EXPECT_EQ(s.scope(tcp(s, "10.1.0.100", 80)->scope)->timeout, timing::minutes(9));
}

// The scope of the only virtual service when its profile's ip_mask is this one.
binding::ScopeId scope_with_mask(Engine& engine, const char* vip, const char* mask) {
  const auto& s = engine.apply(Builder{
      .profile = fmt::format(R"("ip_persistence_profile": {{"ip_persistent_timeout": 5{}{}}})",
                             *mask == 0 ? "" : ", \"ip_mask\": ", mask),
      .servers = {"10.2.0.2", "fd00:2::2"},
      .vips = vip});
  return s.scope(tcp(s, vip, 80)->scope)->id;
}

TEST(Compile, AChangedMaskIsAnotherScope) {
  Engine engine;
  const auto whole = scope_with_mask(engine, "10.1.0.100", "");
  const auto of_24 = scope_with_mask(engine, "10.1.0.100", "24");
  const auto of_16 = scope_with_mask(engine, "10.1.0.100", "16");
  EXPECT_EQ((std::set{whole, of_24, of_16}.size()), 3u);
  EXPECT_EQ(scope_with_mask(engine, "10.1.0.100", "24"), of_24);
}

TEST(Compile, AMaskThatLeavesTheFamilysKeysAsTheyAreKeepsTheScope) {
  Engine v4;
  const auto whole_v4 = scope_with_mask(v4, "10.1.0.100", "");
  EXPECT_EQ(scope_with_mask(v4, "10.1.0.100", "32"), whole_v4);
  EXPECT_EQ(scope_with_mask(v4, "10.1.0.100", "64"), whole_v4);
  Engine v6;
  const auto whole_v6 = scope_with_mask(v6, "fd00:1::100", "");
  EXPECT_EQ(scope_with_mask(v6, "fd00:1::100", "128"), whole_v6);
  EXPECT_NE(scope_with_mask(v6, "fd00:1::100", "64"), whole_v6);
}

TEST(Compile, ScopeIdsTellTypesVirtualServicesPoolsProfilesFamiliesAndFormsOfKeysApart) {
  using enum config::PersistenceType;
  const auto v4 = net::Family::kV4;
  const config::Profile f{.uuid = "f", .type = kClientIp};
  config::Profile cookie = f;
  cookie.type = kAppCookie;
  cookie.key_name = "JSESSIONID";
  config::Profile other_cookie = cookie;
  other_cookie.key_name = "SID";
  config::Profile shared = f;
  shared.shared = true;
  config::Profile masked = f;
  masked.ip_mask = 24;
  config::Profile other = f;
  other.uuid = "g";
  std::set<binding::ScopeId> ids{
      scope_id(f, "v", "p", v4),      scope_id(cookie, "v", "p", v4),
      scope_id(shared, "v", "p", v4), scope_id(other_cookie, "v", "p", v4),
      scope_id(f, "w", "p", v4),      scope_id(f, "v", "q", v4),
      scope_id(other, "v", "p", v4),  scope_id(f, "v", "p", net::Family::kV6),
      scope_id(masked, "v", "p", v4)};
  EXPECT_EQ(ids.size(), 9u);
  EXPECT_EQ(scope_id(shared, "w", "p", v4), scope_id(shared, "v", "p", v4));
  // Engines of different builds must agree: never to change.
  EXPECT_EQ(scope_id(f, "v", "p", v4).value, 7793783597064280453u);
  EXPECT_EQ(scope_id(masked, "v", "p", v4).value, 5501711057606104116u);
}

TEST(Compile, VirtualServiceThatIsSwitchedOffKeepsItsBindings) {
  Engine engine;
  const auto before = engine.apply(Builder{});
  const auto& s =
      engine.apply(Builder{.vs = R"("services": [{"port": 80}], "traffic_enabled": false)"});
  EXPECT_EQ(tcp(s, "10.1.0.100", 80), nullptr);
  EXPECT_NE(s.scope(before.virtual_services[0].scope), nullptr);
}

}  // namespace
}  // namespace limpet::compile
