"""Where methods, models, benchmarks and software are from, as BibTeX: facts of publication, one entry a source.

Those of models and software are as their own repositories ask for: state-spaces/mamba, pytorch/pytorch (CITATION.cff)
and EleutherAI/lm-evaluation-harness.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Citation:
    """A source that a method rests on."""

    key: str
    """BibTeX key."""
    kind: str
    """BibTeX entry type."""
    fields: tuple[tuple[str, str], ...]
    """Names and values, in the order in which they are printed."""

    def bibtex(self) -> str:
        """Return the entry.

        >>> print(Citation("a1", "misc", (("title", "A"), ("year", "1999"))).bibtex())
        @misc{a1,
          title = {A},
          year = {1999},
        }
        """
        inner = "".join(f"  {name} = {{{value}}},\n" for name, value in self.fields)
        return f"@{self.kind}{{{self.key},\n{inner}}}"


def _entry(key: str, kind: str, **fields: str) -> Citation:
    return Citation(key, kind, tuple(fields.items()))


MODULATION = _entry(
    "lu2025mambamodulation",
    "inproceedings",
    author="Lu, Peng and Huang, Jerry and Zeng, Qiuhao and Wang, Xinyu and Chen, Boxing and Langlais, Philippe "
    "and Cui, Yufei",
    title="Mamba Modulation: On the Length Generalization of Mamba",
    booktitle="Advances in Neural Information Processing Systems",
    year="2025",
    eprint="2509.19633",
    archiveprefix="arXiv",
)
EXTEND = _entry(
    "azizi2025mambaextend",
    "inproceedings",
    author="Azizi, Seyedarmin and Kundu, Souvik and Sadeghi, Mohammad Erfan and Pedram, Massoud",
    title="MambaExtend: A Training-Free Approach to Improve Long Context Extension of Mamba",
    booktitle="International Conference on Learning Representations",
    year="2025",
    url="https://openreview.net/forum?id=LgzRo1RpLS",
)
SPSA = _entry(
    "spall1992spsa",
    "article",
    author="Spall, James C.",
    title="Multivariate Stochastic Approximation Using a Simultaneous Perturbation Gradient Approximation",
    journal="IEEE Transactions on Automatic Control",
    volume="37",
    number="3",
    pages="332--341",
    year="1992",
)
ADAM = _entry(
    "kingma2015adam",
    "inproceedings",
    author="Kingma, Diederik P. and Ba, Jimmy",
    title="Adam: A Method for Stochastic Optimization",
    booktitle="International Conference on Learning Representations",
    year="2015",
    eprint="1412.6980",
    archiveprefix="arXiv",
)
RATIO = _entry(
    "zhang2024longmamba",
    "misc",
    author="Zhang, Peiyuan",
    title="LongMamba",
    howpublished="GitHub repository",
    url="https://github.com/jzhang38/LongMamba",
    year="2024",
)
WINSORIZATION = _entry(
    "fars2026winsorization",
    "misc",
    author="{FARS}",
    title="Transition-Spectrum Winsorization",
    howpublished="analemma.ai, automated research; known here from its abstract and one review",
    year="2026",
)
DECIMATION = _entry(
    "benkish2024decimamba",
    "misc",
    author="Ben-Kish, Assaf and Zimerman, Itamar and Abu-Hussein, Shady and Cohen, Nadav and Globerson, Amir "
    "and Wolf, Lior and Giryes, Raja",
    title="DeciMamba: Exploring the Length Extrapolation Potential of Mamba",
    year="2024",
    eprint="2406.14528",
    archiveprefix="arXiv",
)
LONGMAMBA = _entry(
    "ye2025longmamba",
    "inproceedings",
    author="Ye, Zhifan and Xia, Kejing and Fu, Yonggan and Dong, Xin and Hong, Jihoon and Yuan, Xiangchi and "
    "Diao, Shizhe and Kautz, Jan and Molchanov, Pavlo and Lin, Yingyan Celine",
    title="LongMamba: Enhancing Mamba's Long Context Capabilities via Training-Free Receptive Field Enlargement",
    booktitle="International Conference on Learning Representations",
    year="2025",
    eprint="2504.16053",
    archiveprefix="arXiv",
)
STATE_PASSING = _entry(
    "buitrago2025length",
    "inproceedings",
    author="Buitrago Ruiz, Ricardo and Gu, Albert",
    title="Understanding and Improving Length Generalization in Recurrent Models",
    booktitle="International Conference on Machine Learning",
    year="2025",
    eprint="2507.02782",
    archiveprefix="arXiv",
)

MAMBA = _entry(
    "gu2023mamba",
    "article",
    author="Gu, Albert and Dao, Tri",
    title="Mamba: Linear-Time Sequence Modeling with Selective State Spaces",
    journal="arXiv preprint arXiv:2312.00752",
    year="2023",
)
MAMBA2 = _entry(
    "dao2024transformers",
    "inproceedings",
    author="Dao, Tri and Gu, Albert",
    title="Transformers are {SSM}s: Generalized Models and Efficient Algorithms Through Structured State Space Duality",
    booktitle="International Conference on Machine Learning",
    year="2024",
    eprint="2405.21060",
    archiveprefix="arXiv",
)
LONGBENCH = _entry(
    "bai2023longbench",
    "misc",
    author="Bai, Yushi and Lv, Xin and Zhang, Jiajie and Lyu, Hongchang and Tang, Jiankai and Huang, Zhidian and "
    "Du, Zhengxiao and Liu, Xiao and Zeng, Aohan and Hou, Lei and Dong, Yuxiao and Tang, Jie and Li, Juanzi",
    title="LongBench: A Bilingual, Multitask Benchmark for Long Context Understanding",
    year="2023",
    eprint="2308.14508",
    archiveprefix="arXiv",
)
PYTORCH = _entry(
    "ansel2024pytorch",
    "inproceedings",
    author="Ansel, Jason and Yang, Edward and He, Horace and Gimelshein, Natalia and others",
    title="PyTorch 2: Faster Machine Learning Through Dynamic Python Bytecode Transformation and Graph Compilation",
    booktitle="29th ACM International Conference on Architectural Support for Programming Languages and Operating "
    "Systems, Volume 2",
    year="2024",
    doi="10.1145/3620665.3640366",
)
LM_EVAL = _entry(
    "eval-harness",
    "misc",
    author="Gao, Leo and Tow, Jonathan and Abbasi, Baber and Biderman, Stella and others",
    title="The Language Model Evaluation Harness",
    publisher="Zenodo",
    year="2024",
    doi="10.5281/zenodo.12608602",
)

_METHODS = (MODULATION, EXTEND, SPSA, ADAM, RATIO, WINSORIZATION, DECIMATION, LONGMAMBA, STATE_PASSING)
_OTHERS = (MAMBA, MAMBA2, LONGBENCH, PYTORCH, LM_EVAL)
CITATIONS: dict[str, Citation] = {each.key: each for each in (*_METHODS, *_OTHERS)}
"""By key: sources of methods, then models, benchmarks and software."""
