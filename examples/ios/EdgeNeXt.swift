// Runs an exported Core ML file on iOS 16, macOS 13 and later: classification and detection.
//
//   python tools/deployment/export.py CONFIG CHECKPOINT --format coreml --precision fp16 \
//       --out Cells --include preprocess,decode
//
// Add Cells.mlpackage and this file to an app in Xcode, which compiles the file to Cells.mlmodelc:
//
//   let model = try EdgeNeXt(name: "Cells")
//   for found in try model.predict(photo) { print(found.label, found.score, found.box ?? "") }

import CoreGraphics
import CoreML
import Foundation
import Vision

/// A class of the image, or an object if there is a box, in pixels of the image.
public struct Prediction {
    public let label: String
    public let score: Float
    public let box: CGRect?
}

public enum EdgeNeXtError: Error {
    case missing(String)
    case unsuitable(String)
}

public final class EdgeNeXt {
    private let model: MLModel
    private let constraint: MLImageConstraint
    private let outputs: [String]
    private let labels: [String]
    private let task: String
    private let keepsRatio: Bool
    private let iouThreshold: Double

    /// Opens a file in the bundle of the app.
    public init(name: String, units: MLComputeUnits = .all) throws {
        guard let url = Bundle.main.url(forResource: name, withExtension: "mlmodelc") else {
            throw EdgeNeXtError.missing("\(name).mlpackage is not in the app")
        }
        let configuration = MLModelConfiguration()
        configuration.computeUnits = units
        model = try MLModel(contentsOf: url, configuration: configuration)
        let description = model.modelDescription
        guard let constraint = description.inputDescriptionsByName["images"]?.imageConstraint else {
            throw EdgeNeXtError.unsuitable("Export the file with --include preprocess")
        }
        self.constraint = constraint
        let known = description.metadata[.creatorDefinedKey] as? [String: String] ?? [:]
        guard let stored = known["edgenext_mm"]?.data(using: .utf8),
            let metadata = try JSONSerialization.jsonObject(with: stored) as? [String: Any]
        else {
            throw EdgeNeXtError.unsuitable("\(name) holds no metadata of edgenext_mm")
        }
        // Lists are stored as {"tuple": [...]}.
        func strings(_ key: String) -> [String] {
            (metadata[key] as? [String: [String]])?["tuple"] ?? []
        }
        outputs = strings("outputs")
        labels = strings("classes")
        task = metadata["task"] as? String ?? ""
        let preprocessing = metadata["preprocessing"] as? [String: Any] ?? [:]
        let steps = preprocessing["steps"] as? [[String: Any]] ?? []
        keepsRatio = steps.contains { $0["keep_ratio"] as? Bool == true }
        let results = metadata["results"] as? [String: Any] ?? [:]
        iouThreshold = results["iou_threshold"] as? Double ?? 0.6
    }

    /// Returns the classes with the highest scores, or the objects whose scores are high enough.
    public func predict(
        _ image: CGImage, scoreThreshold: Float = 0.4, top: Int = 5
    ) throws -> [Prediction] {
        let isDetector = task == "detection"
        var scale = CGSize(
            width: CGFloat(constraint.pixelsWide) / CGFloat(image.width),
            height: CGFloat(constraint.pixelsHigh) / CGFloat(image.height))
        var input = image
        if isDetector && keepsRatio {
            let factor = min(scale.width, scale.height)
            scale = CGSize(width: factor, height: factor)
            input = try padded(image, factor: factor)
        }
        let crop: VNImageCropAndScaleOption = isDetector ? .scaleFill : .centerCrop
        let value = try MLFeatureValue(
            cgImage: input, constraint: constraint, options: [.cropAndScale: crop.rawValue])
        let provider = try MLDictionaryFeatureProvider(dictionary: ["images": value])
        let found = try model.prediction(from: provider)
        if let scores = found.featureValue(for: "classLabel_probs")?.dictionaryValue {
            let classes = scores.map {
                Prediction(label: "\($0.key)", score: $0.value.floatValue, box: nil)
            }
            return Array(classes.sorted { $0.score > $1.score }.prefix(top))
        }
        let arrays = outputs.compactMap { found.featureValue(for: $0)?.multiArrayValue }
        guard isDetector, arrays.count == outputs.count else {
            throw EdgeNeXtError.unsuitable("Export the file with --include preprocess,decode")
        }
        let values = arrays.map { array in (0..<array.count).map { array[$0].floatValue } }
        return objects(values, scale: scale, threshold: scoreThreshold)
    }

    /// Draws the image at the top left of the input; the rest is about the mean colour of photos.
    private func padded(_ image: CGImage, factor: CGFloat) throws -> CGImage {
        let (width, height) = (constraint.pixelsWide, constraint.pixelsHigh)
        let context = CGContext(
            data: nil, width: width, height: height, bitsPerComponent: 8, bytesPerRow: 0,
            space: CGColorSpaceCreateDeviceRGB(),
            bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
        guard let context else { throw EdgeNeXtError.unsuitable("The image is too large") }
        context.setFillColor(red: 0.485, green: 0.456, blue: 0.406, alpha: 1)
        context.fill(CGRect(x: 0, y: 0, width: width, height: height))
        let size = CGSize(
            width: CGFloat(image.width) * factor, height: CGFloat(image.height) * factor)
        // The origin of Core Graphics is the bottom left corner.
        let place = CGPoint(x: 0, y: CGFloat(height) - size.height)
        context.draw(image, in: CGRect(origin: place, size: size))
        guard let result = context.makeImage() else {
            throw EdgeNeXtError.unsuitable("The image cannot be resized")
        }
        return result
    }

    private func objects(_ values: [[Float]], scale: CGSize, threshold: Float) -> [Prediction] {
        let (boxes, scores) = (values[0], values[1])
        let factors: [Float]? = values.count > 2 ? values[2] : nil  // of heads with a centreness
        var found: [Prediction] = []
        for i in 0..<(boxes.count / 4) {
            for j in labels.indices {
                let score = scores[i * labels.count + j] * (factors?[i] ?? 1)
                if score < threshold { continue }
                let corner = CGPoint(
                    x: CGFloat(boxes[4 * i]) / scale.width,
                    y: CGFloat(boxes[4 * i + 1]) / scale.height)
                let size = CGSize(
                    width: CGFloat(boxes[4 * i + 2]) / scale.width - corner.x,
                    height: CGFloat(boxes[4 * i + 3]) / scale.height - corner.y)
                let box = CGRect(origin: corner, size: size)
                found.append(Prediction(label: labels[j], score: score, box: box))
            }
        }
        // Non-maximum suppression within each class.
        var kept: [Prediction] = []
        for candidate in found.sorted(by: { $0.score > $1.score }) {
            let isDouble = kept.contains {
                $0.label == candidate.label && iou($0.box, candidate.box) > iouThreshold
            }
            if !isDouble { kept.append(candidate) }
        }
        return kept
    }

    private func iou(_ first: CGRect?, _ second: CGRect?) -> Double {
        guard let first, let second else { return 0 }
        let common = first.intersection(second)
        if common.isNull { return 0 }
        let shared = common.width * common.height
        return Double(shared / (first.width * first.height + second.width * second.height - shared))
    }
}
