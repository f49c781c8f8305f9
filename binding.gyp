# The addon is built by CMake (native/CMakeLists.txt). This file serves the tools that know only node-gyp
# (electron-rebuild, prebuildify, `npm rebuild`): it hands them the same build, and the addon lands in the same
# place, build/Release/matryoshka.node. package.json says "gypfile": false, so npm never runs it by itself.
{
  "targets": [
    {
      "target_name": "matryoshka",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "inputs": [],
          "outputs": ["<(PRODUCT_DIR)/.always"],
          "action": [
            "node", "<!(node -p \"require.resolve('cmake-js/bin/cmake-js')\")",
            "build", "-d", "<(module_root_dir)/native", "-O", "<(module_root_dir)/build/cmake"
          ]
        }
      ]
    }
  ]
}
