// Reads persistence profiles, Avi's and NSX's.
#include <fmt/format.h>

#include "control/config/draft.h"

namespace limpet::config {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

constexpr std::array<Choice<PersistenceType>, 8> kTypes = {{
    {"PERSISTENCE_TYPE_CLIENT_IP_ADDRESS", PersistenceType::kClientIp},
    {"PERSISTENCE_TYPE_CLIENT_IPV6_ADDRESS", PersistenceType::kClientIp},
    {"PERSISTENCE_TYPE_HTTP_COOKIE", PersistenceType::kHttpCookie},
    {"PERSISTENCE_TYPE_APP_COOKIE", PersistenceType::kAppCookie},
    {"PERSISTENCE_TYPE_CUSTOM_HTTP_HEADER", PersistenceType::kCustomHeader},
    {"PERSISTENCE_TYPE_TLS", PersistenceType::kTls},
    {"PERSISTENCE_TYPE_GSLB_SITE", PersistenceType::kGslbSite},
    {"PERSISTENCE_TYPE_APP_DIAMETER", PersistenceType::kAppDiameter},
}};

constexpr std::array<Choice<Recovery>, 3> kRecoveries = {{
    {"HM_DOWN_PICK_NEW_SERVER", Recovery::kPickNew},
    {"HM_DOWN_CONTINUE_PERSISTENT_SERVER", Recovery::kContinue},
    {"HM_DOWN_ABORT_CONNECTION", Recovery::kAbort},
}};

enum class Purge : uint8_t { kFull, kNone };
constexpr std::array<Choice<Purge>, 2> kPurges = {
    {{"FULL", Purge::kFull}, {"NO_PURGE", Purge::kNone}}};

constexpr Range kTimeoutSeconds{0, 2'592'000};

// What a type keeps in its sub-profile.
struct Body {
  PersistenceType type;
  std::string_view sub_profile;
  std::string_view timeout;  // empty: none
  Range timeout_minutes;
  minutes timeout_default;
  std::string_view key_name;  // empty: none
};

constexpr std::array<Body, 6> kBodies = {{
    {PersistenceType::kClientIp,
     "ip_persistence_profile",
     "ip_persistent_timeout",
     {0, 43'200},
     minutes(5),
     ""},
    {PersistenceType::kHttpCookie,
     "http_cookie_persistence_profile",
     "timeout",
     {1, 14'400, 0},
     minutes(0),
     "cookie_name"},
    {PersistenceType::kGslbSite,
     "http_cookie_persistence_profile",
     "timeout",
     {1, 14'400, 0},
     minutes(0),
     "cookie_name"},
    {PersistenceType::kAppCookie,
     "app_cookie_persistence_profile",
     "timeout",
     {1, 720},
     minutes(20),
     "prst_hdr_name"},
    {PersistenceType::kCustomHeader,
     "hdr_persistence_profile",
     "",
     {0, 0},
     minutes(0),
     "prst_hdr_name"},
    {PersistenceType::kAppDiameter,
     "diameter_app_persistence_profile",
     "timeout",
     {1, 720},
     minutes(5),
     ""},
}};

seconds read_timeout(const Fields& sub, const Body& body) {
  const auto in_minutes = sub.integer(body.timeout, body.timeout_minutes);
  const auto in_seconds = sub.integer("timeout_seconds", kTimeoutSeconds);
  if (sub.has(body.timeout) && sub.has("timeout_seconds")) {
    sub.error("timeout_seconds",
              fmt::format("stands instead of {}: only one of them may be given", body.timeout));
  }
  if (in_seconds) return seconds(*in_seconds);
  return in_minutes ? minutes(*in_minutes) : body.timeout_default;
}

void read_ip_mask(const Fields& sub, Profile* profile) {
  const auto mask = sub.integer("ip_mask", {0, 128});
  if (!mask) return;
  profile->ip_mask = static_cast<uint8_t>(*mask);
  if (*mask == 0) {
    sub.problems().warning(sub.at("ip_mask"), "0 sends all clients to the same server");
  }
}

// The sub-profile of the profile's own type. Those of other types are left unread: converters are
// known to write them, and they mean nothing.
void read_body(const Fields& fields, Profile* profile) {
  for (const Body& body : kBodies) {
    if (body.type != profile->type) continue;
    profile->timeout = body.timeout_default;
    const Fields sub = fields.object(body.sub_profile);
    if (!sub) return;
    if (!body.timeout.empty()) profile->timeout = read_timeout(sub, body);
    if (!body.key_name.empty()) {
      if (const auto name = sub.name(body.key_name)) profile->key_name = *name;
    }
    if (profile->type == PersistenceType::kClientIp) read_ip_mask(sub, profile);
    sub.ignore({"encryption_key", "key", "always_send_cookie", "http_only", "is_persistent_cookie",
                "avp_key_type"});
    return;
  }
  profile->timeout = seconds(0);
}

// control/config/README.md, "Beyond Avi's and NSX's fields": what both kinds of profiles have
// alike.
void read_common(const Fields& fields, Profile* profile) {
  if (const auto purge = fields.choice("purge", kPurges)) profile->purge = *purge == Purge::kFull;
  profile->shared = fields.boolean("persistence_shared").value_or(profile->shared);
  profile->mirrored =
      fields.boolean("ha_persistence_mirroring_enabled").value_or(profile->mirrored);
  fields.ignore({"tags"});

  const Fields recovery = fields.object("server_recovery");
  profile->down = recovery.choice("down", kRecoveries).value_or(profile->down);
  profile->at_limit = recovery.choice("at_limit", kRecoveries).value_or(profile->at_limit);
  if (const auto draining = recovery.choice("draining", kRecoveries)) {
    profile->draining = *draining;
  }
  profile->return_home = recovery.boolean("return_home").value_or(false);
}

Profile profile_of(const Header& header) {
  auto profile = object_of<Profile>(header);
  profile.model = header.model;
  return profile;
}

// NSX's objects carry what the policy API adds.
void ignore_nsx_fields(const Fields& fields) {
  fields.ignore({"id", "display_name", "resource_type", "path", "parent_path", "relative_path",
                 "unique_id", "realization_id", "owner_id", "marked_for_delete", "overridden",
                 "_revision", "_create_time", "_create_user", "_last_modified_time",
                 "_last_modified_user", "_protection", "_system_owned"});
}

enum class CookieMode : uint8_t { kInsert, kPrefix, kRewrite };
constexpr std::array<Choice<CookieMode>, 3> kCookieModes = {{
    {"INSERT", CookieMode::kInsert},
    {"PREFIX", CookieMode::kPrefix},
    {"REWRITE", CookieMode::kRewrite},
}};

void read_nsx_cookie(const Fields& fields, Profile* profile) {
  profile->type = PersistenceType::kHttpCookie;
  profile->timeout = seconds(0);
  profile->key_name = fields.name("cookie_name").value_or("NSXLB");
  fields.choice("cookie_mode", kCookieModes);
  // Without fallback a request whose server is down or disabled is refused.
  if (!fields.boolean("cookie_fallback").value_or(true)) {
    profile->down = Recovery::kAbort;
    profile->draining = Recovery::kAbort;
  }
  for (const std::string_view key : {"cookie_garble", "cookie_httponly", "cookie_secure"}) {
    fields.boolean(key);
  }
  fields.text("cookie_domain");
  fields.text("cookie_path");
  const Fields time = fields.object("cookie_time");
  const auto idle = time.integer("cookie_max_idle", {1, INT32_MAX});
  const auto life = time.integer("cookie_max_life", {1, INT32_MAX});
  time.ignore({"type"});
  profile->timeout = seconds(life.value_or(idle.value_or(0)));
}

}  // namespace

const char* to_string(PersistenceType type) {
  if (type == PersistenceType::kGeneric) return "PERSISTENCE_TYPE_GENERIC";
  for (const auto& choice : kTypes) {
    if (choice.value == type) return choice.text.data();
  }
  return "?";
}

void read_persistence_profiles(Draft* draft) {
  for_each_object(*draft, Target::kPersistenceProfile, [&](Fields& fields, const Header& header) {
    Profile profile = profile_of(header);
    profile.type = fields.choice("persistence_type", kTypes).value_or(PersistenceType::kClientIp);
    const auto recovery = fields.choice("server_hm_down_recovery", kRecoveries);
    profile.down = profile.at_limit = recovery.value_or(Recovery::kPickNew);
    read_common(fields, &profile);
    if (const auto interval = fields.integer("persistence_update_interval", {1, 30})) {
      profile.update_interval = minutes(*interval);
    }
    read_body(fields, &profile);
    for (const Body& body : kBodies) fields.ignore({body.sub_profile});
    fields.ignore({"is_federated"});
    draft->document.profiles.push_back(std::move(profile));
  });
}

void read_nsx_persistence_profiles(Draft* draft) {
  for_each_object(
      *draft, Target::kNsxPersistenceProfile, [&](Fields& fields, const Header& header) {
        Profile profile = profile_of(header);
        profile.mirrored = false;
        ignore_nsx_fields(fields);
        if (header.model == "LBCookiePersistenceProfile") {
          read_nsx_cookie(fields, &profile);
        } else {
          if (header.model == "LBGenericPersistenceProfile") {
            profile.type = PersistenceType::kGeneric;
          }
          profile.timeout = seconds(fields.integer("timeout", kTimeoutSeconds).value_or(300));
        }
        read_common(fields, &profile);
        draft->document.profiles.push_back(std::move(profile));
      });
}

}  // namespace limpet::config
