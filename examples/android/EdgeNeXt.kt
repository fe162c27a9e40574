// Runs an exported LiteRT file on Android: classification and detection.
//
//   python tools/deployment/export.py CONFIG CHECKPOINT --format litert --out cells \
//       --include preprocess,decode
//
// Put cells.tflite into app/src/main/assets, this file beside your activities, and add to
// app/build.gradle.kts:
//
//   android { androidResources { noCompress += "tflite" } }
//   dependencies { implementation("com.google.ai.edge.litert:litert:1.0.1") }
//
// Call `predict` outside the main thread, always from the same one.

package org.edgenext

import android.content.Context
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.RectF
import org.json.JSONObject
import org.tensorflow.lite.Interpreter
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.zip.ZipFile
import kotlin.math.max
import kotlin.math.min

/** A class of the image, or an object if there is a box, in pixels of the image. */
data class Prediction(val label: String, val score: Float, val box: RectF? = null)

class EdgeNeXt(context: Context, asset: String, threads: Int = 4) : AutoCloseable {
    private val interpreter: Interpreter
    private val metadata: JSONObject
    private val labels: List<String>
    private val height: Int
    private val width: Int
    private val pixels: ByteBuffer

    init {
        // The file ends with a zip archive of its labels and metadata.
        val file = File(context.cacheDir, asset)
        context.assets.open(asset).use { source ->
            file.outputStream().use { target -> source.copyTo(target) }
        }
        metadata = JSONObject(entryText(file, "edgenext_mm.json"))
        labels = entryText(file, "labels.txt").lines().filter { it.isNotEmpty() }
        interpreter = Interpreter(file, Interpreter.Options().setNumThreads(threads))
        val shape = interpreter.getInputTensor(0).shape() // 1, H, W, 3
        require(shape[3] == 3 && "decode" in metadata.getJSONObject("include").toString()) {
            "Export the file with --include preprocess,decode."
        }
        height = shape[1]
        width = shape[2]
        pixels = ByteBuffer.allocateDirect(height * width * 3).order(ByteOrder.nativeOrder())
    }

    /** Returns the classes with the highest scores, or the objects whose scores are high enough. */
    fun predict(image: Bitmap, scoreThreshold: Float = 0.4f, top: Int = 5): List<Prediction> {
        val isDetector = metadata.getString("task") == "detection"
        val scale = if (isDetector) fitInto(image) else fill(image)
        val outputs = run()
        return if (isDetector) objects(outputs, scale, scoreThreshold) else classes(outputs[0], top)
    }

    private fun entryText(file: File, name: String): String = ZipFile(file).use { archive ->
        archive.getInputStream(archive.getEntry(name)).bufferedReader().readText()
    }

    override fun close() = interpreter.close()

    /** Resizes the image to fit, or stretches it, as the config says; returns the factors. */
    private fun fitInto(image: Bitmap): Pair<Float, Float> {
        var scale = Pair(width.toFloat() / image.width, height.toFloat() / image.height)
        if (metadata.getJSONObject("preprocessing").getJSONArray("steps").toString()
                .contains("\"keep_ratio\":true")) {
            val factor = min(scale.first, scale.second)
            scale = Pair(factor, factor)
        }
        draw(image, RectF(0f, 0f, image.width * scale.first, image.height * scale.second))
        return scale
    }

    /** Takes the largest part in the middle that has the aspect ratio of the input. */
    private fun fill(image: Bitmap): Pair<Float, Float> {
        val factor = max(width.toFloat() / image.width, height.toFloat() / image.height)
        val left = (width - image.width * factor) / 2
        val top = (height - image.height * factor) / 2
        draw(image, RectF(left, top, left + image.width * factor, top + image.height * factor))
        return Pair(factor, factor)
    }

    /** Draws the image on the input; the rest is about the mean colour of photographs. */
    private fun draw(image: Bitmap, place: RectF) {
        val input = Bitmap.createBitmap(width, height, Bitmap.Config.ARGB_8888)
        val canvas = Canvas(input)
        canvas.drawColor(Color.rgb(124, 116, 104))
        canvas.drawBitmap(image, null, place, android.graphics.Paint(FILTER))
        val values = IntArray(width * height)
        input.getPixels(values, 0, width, 0, 0, width, height)
        pixels.rewind()
        for (value in values) {
            pixels.put(Color.red(value).toByte())
            pixels.put(Color.green(value).toByte())
            pixels.put(Color.blue(value).toByte())
        }
        pixels.rewind()
    }

    /** Returns the outputs in their order: the boxes and scores of a detector. */
    private fun run(): List<FloatArray> {
        val key = interpreter.signatureKeys[0]
        val names = interpreter.getSignatureOutputs(key).sortedBy { it.substringAfterLast('_').toInt() }
        val buffers = names.map { name ->
            val size = interpreter.getOutputTensorFromSignature(name, key).numBytes()
            ByteBuffer.allocateDirect(size).order(ByteOrder.nativeOrder())
        }
        val inputs = mapOf<String, Any>(interpreter.getSignatureInputs(key)[0] to pixels)
        interpreter.runSignature(inputs, names.zip(buffers).toMap<String, Any>(), key)
        return buffers.map { buffer ->
            buffer.rewind()
            FloatArray(buffer.capacity() / 4).also { buffer.asFloatBuffer().get(it) }
        }
    }

    private fun classes(scores: FloatArray, top: Int): List<Prediction> =
        scores.mapIndexed { i, score -> Prediction(labels[i], score) }
            .sortedByDescending { it.score }.take(top)

    private fun objects(
        outputs: List<FloatArray>, scale: Pair<Float, Float>, threshold: Float
    ): List<Prediction> {
        val boxes = outputs[0]
        val scores = outputs[1]
        val factors = outputs.getOrNull(2) // of heads with a centreness
        val found = mutableListOf<Prediction>()
        for (i in 0 until boxes.size / 4) {
            for (j in labels.indices) {
                val score = scores[i * labels.size + j] * (factors?.get(i) ?: 1f)
                if (score >= threshold) {
                    val box = RectF(
                        boxes[4 * i] / scale.first, boxes[4 * i + 1] / scale.second,
                        boxes[4 * i + 2] / scale.first, boxes[4 * i + 3] / scale.second
                    )
                    found.add(Prediction(labels[j], score, box))
                }
            }
        }
        // Non-maximum suppression within each class.
        val limit = metadata.getJSONObject("results").getDouble("iou_threshold")
        val kept = mutableListOf<Prediction>()
        for (candidate in found.sortedByDescending { it.score }) {
            val isNew = kept.none { it.label == candidate.label && iou(it, candidate) > limit }
            if (isNew) kept.add(candidate)
        }
        return kept
    }

    private fun iou(first: Prediction, second: Prediction): Float {
        val a = first.box ?: return 0f
        val b = second.box ?: return 0f
        val common = max(0f, min(a.right, b.right) - max(a.left, b.left)) *
            max(0f, min(a.bottom, b.bottom) - max(a.top, b.top))
        return common / (a.width() * a.height() + b.width() * b.height() - common)
    }

    private companion object {
        const val FILTER = android.graphics.Paint.FILTER_BITMAP_FLAG
    }
}
