// Documents in the shapes that public sources have: converters' output, Ansible's roles, what
// Terraform posts, REST answers, what the Kubernetes operator makes. Each has a stated outcome: so
// many virtual services served, so many errors, and something that its operator is told.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "control/compile/compile.h"
#include "tests/unit/config_fixture.h"

namespace limpet::config {
namespace {

using ::testing::HasSubstr;

struct Sample {
  const char* file;
  std::size_t served;
  std::size_t virtual_services;
  std::size_t errors;
  const char* path;  // of a warning, or of the first error
  const char* says;
};

const Sample kSamples[] = {
    {"f5_converter.json", 1, 2, 0, "/VirtualService/1/application_profile_ref",
     "nothing that is served uses it"},
    {"netscaler_converter.json", 1, 4, 0, "/VirtualService/1/pool_group_ref", "pool groups"},
    {"ansible_role.json", 1, 2, 0, "/avi_config/virtualservice/1/application_profile_ref", "HTTP"},
    {"ansible_modules.json", 1, 1, 0, "", ""},
    {"terraform_applied.json", 1, 1, 0, "/Pool/0/health_monitor_refs", "not run yet"},
    {"rest_objects_by_uuid.json", 0, 0, 3, "/VirtualService/0/application_profile_ref",
     "export the configuration with names"},
    {"rest_objects_with_names.json", 1, 1, 0, "/VirtualService/0/vsvip_ref", "no vsvip"},
    {"rest_answer.json", 0, 0, 1, "", "answer of the REST API"},
    {"rest_one_object.json", 0, 0, 1, "", R"({"Pool": [{...}]})"},
    {"kubernetes_operator.json", 1, 4, 0, "/VirtualService/1/network_profile_ref", "TCP proxy"},
    {"clouds_and_vrfs.json", 2, 3, 0, "/VirtualService/2/vsvip_ref", "VRFs are not built"},
    {"nsx_policy_tree.json", 0, 0, 1, "", "NSX's own load balancer"},
    {"nsx_migrated.json", 1, 4, 0, "/VirtualService/3/performance_limits", "performance limits"},
};

compile::Environment environment() {
  compile::Environment e;
  e.engine = "se1";
  e.ports = {
      {.name = "front", .index = 0, .mac = {}, .addresses = {*net::Prefix::parse("10.1.0.1/24")}},
      {.name = "back", .index = 1, .mac = {}, .addresses = {*net::Prefix::parse("10.2.0.1/24")}}};
  return e;
}

std::string all(const std::vector<base::Error>& problems) {
  std::string out;
  for (const base::Error& p : problems) out += p.path + ": " + p.message + "\n";
  return out;
}

void expect_told(const std::vector<base::Error>& problems, const Sample& sample) {
  if (*sample.says == '\0') {
    EXPECT_TRUE(problems.empty()) << all(problems);
    return;
  }
  for (const base::Error& problem : problems) {
    if (problem.path == sample.path && problem.message.find(sample.says) != std::string::npos)
      return;
  }
  ADD_FAILURE() << "nobody is told of " << sample.path << "; but:\n" << all(problems);
}

TEST(Samples, EachHasItsOutcome) {
  for (const Sample& sample : kSamples) {
    SCOPED_TRACE(sample.file);
    const std::string text = read_document_file(std::string("samples/") + sample.file);
    ASSERT_FALSE(text.empty());
    const auto parsed = parse_document(text);
    if (!parsed.ok()) {
      EXPECT_EQ(parsed.errors().size(), sample.errors) << all(parsed.errors());
      EXPECT_EQ(parsed.errors().front().path, sample.path);
      expect_told(parsed.errors(), sample);
      continue;
    }
    EXPECT_EQ(sample.errors, 0u) << all(parsed.value().warnings);
    compile::Registry registry;
    const auto compiled = compile::compile(parsed.value().document, environment(), registry);
    ASSERT_TRUE(compiled.ok());
    EXPECT_EQ(compiled.value().served, sample.served) << all(parsed.value().warnings);
    EXPECT_EQ(compiled.value().virtual_services, sample.virtual_services);
    auto warnings = parsed.value().warnings;
    warnings.insert(warnings.end(), compiled.value().warnings.begin(),
                    compiled.value().warnings.end());
    expect_told(warnings, sample);
    // Of each that is not served for another reason than an operator's there is one warning.
    for (const VirtualService& vs : parsed.value().document.virtual_services) {
      std::size_t told = 0;
      for (const base::Error& w : warnings) {
        if (w.message.find("\"" + vs.name + "\" is not served") != std::string::npos) ++told;
      }
      EXPECT_EQ(told, vs.served || !vs.enabled ? 0u : 1u) << vs.name;
    }
  }
}

TEST(Samples, EveryFileIsInTheTable) {
  std::set<std::string> listed;
  for (const Sample& sample : kSamples) listed.insert(sample.file);
  std::set<std::string> there;
  for (const auto& entry : std::filesystem::directory_iterator(LIMPET_TEST_DOCUMENTS "/samples")) {
    there.insert(entry.path().filename());
  }
  EXPECT_EQ(listed, there);
}

}  // namespace
}  // namespace limpet::config
