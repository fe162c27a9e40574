// Runs an exported OpenVINO file on an image: a starting point for your own program.
//
// The file holds the normalisation, the network, its scores and, for detectors, NMS:
//
//   python tools/deployment/export.py CONFIG CHECKPOINT --format openvino --out model
//       --include preprocess,decode     (classifiers)
//       --include preprocess,decode,nms (detectors)
//
//   edgenext model.xml photo.ppm [threads]
//
// The image is a PPM file (`convert photo.jpg photo.ppm`); OpenVINO resizes it to the input of the
// file. The test pipeline of the config may crop, or keep the aspect ratio: do the same here if
// results shall be those of Python.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include <openvino/openvino.hpp>

struct Image {
    size_t width = 0, height = 0;
    std::vector<uint8_t> pixels;  // red, green, blue
};

static Image read_ppm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string kind;
    size_t highest = 0;
    Image image;
    file >> kind >> image.width >> image.height >> highest;
    file.get();  // the single white space before the pixels
    if (!file || kind != "P6" || highest != 255)
        throw std::runtime_error(path + " is not a PPM image of eight bits (P6).");
    image.pixels.resize(image.width * image.height * 3);
    file.read(reinterpret_cast<char*>(image.pixels.data()), image.pixels.size());
    if (!file) throw std::runtime_error(path + " is incomplete.");
    return image;
}

static ov::CompiledModel load(const std::string& path, const Image& image, int threads) {
    ov::Core core;
    auto model = core.read_model(path);
    const auto input = model->input("images");
    if (input.get_element_type() != ov::element::u8)
        throw std::runtime_error(path + " takes no pixels. Export it with --include preprocess.");
    ov::preprocess::PrePostProcessor steps(model);
    steps.input("images")
        .tensor()
        .set_element_type(ov::element::u8)
        .set_layout("NHWC")
        .set_spatial_static_shape(image.height, image.width);
    steps.input("images").model().set_layout("NHWC");
    if (ov::Shape{1, image.height, image.width, 3} != input.get_shape())
        steps.input("images").preprocess().resize(ov::preprocess::ResizeAlgorithm::RESIZE_LINEAR);
    return core.compile_model(steps.build(), "CPU", ov::inference_num_threads(threads),
                              ov::hint::inference_precision(ov::element::f32));
}

static void print_classes(const ov::Tensor& scores) {
    for (size_t i = 0; i < scores.get_size(); i++)
        std::printf("%zu %.6f\n", i, scores.data<float>()[i]);
}

static void print_objects(ov::InferRequest& request) {
    const ov::Tensor boxes = request.get_output_tensor(0), scores = request.get_output_tensor(1),
                     labels = request.get_output_tensor(2);
    for (size_t i = 0; i < scores.get_size(); i++) {
        const float* box = boxes.data<float>() + 4 * i;  // corners in pixels of the input
        std::printf("%lld %.6f %.3f %.3f %.3f %.3f\n",
                    static_cast<long long>(labels.data<int64_t>()[i]), scores.data<float>()[i],
                    box[0], box[1], box[2], box[3]);
    }
}

int main(int argc, char** argv) try {
    if (argc < 3) {
        std::cerr << "usage: " << argv[0] << " MODEL.xml IMAGE.ppm [THREADS]\n";
        return 2;
    }
    Image image = read_ppm(argv[2]);
    auto model = load(argv[1], image, argc > 3 ? std::atoi(argv[3]) : 0);
    auto request = model.create_infer_request();
    request.set_tensor("images", ov::Tensor(ov::element::u8, {1, image.height, image.width, 3},
                                            image.pixels.data()));
    float size[] = {65504, 65504}, scale[] = {1, 1};  // for NMS: no padding, no scaling
    for (const auto& input : model.inputs()) {
        if (input.get_any_name() == "images") continue;
        float* values = input.get_any_name() == "image_size" ? size : scale;
        request.set_tensor(input, ov::Tensor(ov::element::f32, {1, 2}, values));
    }
    request.infer();
    const auto names = model.outputs().front().get_names();
    if (names.count("scores"))
        print_classes(request.get_output_tensor());
    else if (names.count("detected_boxes"))
        print_objects(request);
    else
        throw std::runtime_error("This file needs decode (classifiers) or nms (detectors).");
    return 0;
} catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
}
